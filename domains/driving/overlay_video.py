"""A video written frame by frame with the times of its source: H.264 in MP4, which every player opens."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np

TIME_BASE = Fraction(1, 90_000)
QUALITY = {"preset": "veryfast", "crf": "23"}


class OverlayVideo:
    """Opened with the first frame, whose size it takes (an odd last row or column is left out)."""

    def __init__(self, path: Path) -> None:
        self._container = av.open(str(path), "w", options={"movflags": "+faststart"})
        self._stream: av.VideoStream | None = None

    def write(self, frame: np.ndarray, seconds: float) -> None:
        """One frame (H, W, 3) uint8 at `seconds`, later than the one before."""
        height, width = (side - side % 2 for side in frame.shape[:2])
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", options=QUALITY)
            self._stream.codec_context.thread_count = 1
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.codec_context.time_base = self._stream.time_base = TIME_BASE
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        picture.pts, picture.time_base = round(seconds / TIME_BASE), TIME_BASE
        self._container.mux(self._stream.encode(picture))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None and kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
