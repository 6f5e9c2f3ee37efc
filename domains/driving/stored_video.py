"""A recording as it lies in the store: a small H.264 file with a keyframe every 15 frames, and where each frame lies.

`frames.mp4` plays anywhere: 8-bit 4:2:0, limited range, BT.709 where the source says so and else BT.601, both written
down in the stream, so that colours come back; no sound, no metadata, no place. `packets.npy` (T, 3) int64 has offset,
size in bytes and 1 at a keyframe for each frame, so that reading a few frames opens no container and seeks nothing:
the packets from the keyframe before are handed to the decoder. Decoding order is the order shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from domains.driving.video import plane

VIDEO, PACKETS = "frames.mp4", "packets.npy"
KEY_EVERY = 15
"""Frames: what a random read decodes for nothing is 7 on average."""
ENCODER = {"preset": "veryfast", "tune": "fastdecode", "crf": "18", "g": str(KEY_EVERY), "bf": "0", "sc_threshold": "0"}
SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND
TICKS = 90_000
"""A second in the file."""


class Scaler:
    """Frames of a source on the stored grid: the same for what is written and for what a model sees at once."""

    def __init__(self, shape: tuple[int, int]) -> None:
        """`shape` is (H, W) of the stored frames, both even."""
        self._shape, self._scaling, self._colours = shape, VideoReformatter(), VideoReformatter()

    def scaled(self, frame: av.VideoFrame, rotation: int) -> av.VideoFrame:
        """The frame as 4:2:0 of the stored size, turned by so many degrees anticlockwise."""
        height, width = self._shape[::-1] if rotation % 180 == 90 else self._shape
        scaled = self._scaling.reformat(
            frame, width, height, "yuv420p", dst_colorspace=_matrix(frame), interpolation=SCALING,
            dst_color_range=ColorRange.MPEG, threads=1,
        )  # fmt: skip
        return _turned(scaled, rotation // 90) if rotation else scaled

    def rgb(self, frame: av.VideoFrame, rotation: int) -> np.ndarray:
        """(H, W, 3) uint8: the frame as `Reader` would give it, but for what the encoder loses."""
        return _rgb(self._colours, self.scaled(frame, rotation), slice(None), slice(None))


class Writer:
    """Encodes frames one by one into a folder; use as a context. One thread: the bytes depend on the frames alone."""

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        """`shape` is (H, W) of the stored frames, both even."""
        self._folder, self._shape = folder, shape
        self._container = av.open(str(folder / VIDEO), "w", options={"fflags": "+bitexact", "movflags": "+faststart"})
        self._stream: av.VideoStream | None = None
        self._scaler, self._ticks = Scaler(shape), -1

    def __enter__(self) -> Writer:
        return self

    def add(self, frame: av.VideoFrame, rotation: int, seconds: float) -> np.ndarray:
        """Scales a frame, turns it by so many degrees anticlockwise, writes it; gives its stored luma (H, W) uint8."""
        scaled = self._scaler.scaled(frame, rotation)
        if self._stream is None:
            self._stream = self._opened(_matrix(frame))
        self._ticks = max(self._ticks + 1, round(seconds * TICKS))
        scaled.pts, scaled.time_base = self._ticks, Fraction(1, TICKS)
        scaled.pict_type = av.video.frame.PictureType.NONE  # the source's keyframes are not ours
        self._container.mux(self._stream.encode(scaled))
        return plane(scaled, 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        if kind is None and self._stream is not None:
            np.save(self._folder / PACKETS, _packets(self._folder / VIDEO))

    def _opened(self, matrix: Colorspace) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=30, options=ENCODER)
        stream.height, stream.width = self._shape
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base, context.thread_count = Fraction(1, TICKS), 1
        context.colorspace, context.color_range = matrix, ColorRange.MPEG
        return stream


class Reader:
    """Frames of a stored recording by number; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        path = folder / VIDEO
        self._packets: np.ndarray = np.load(folder / PACKETS)
        self._keys = np.flatnonzero(self._packets[:, 2])
        self._bytes = np.memmap(path, np.uint8, "r")
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            self._extradata = container.streams.video[0].codec_context.extradata

    def read(self, indices: Sequence[int] | np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """(N, H, W, 3) uint8 windows of the frames with these numbers, in their order; each is decoded once."""
        wanted, place = np.unique(np.asarray(indices, np.int64), return_inverse=True)
        scaling = VideoReformatter()
        found = [_rgb(scaling, frame, rows, columns) for frame in self._decoded(wanted)]
        assert len(found) == len(wanted), "a stored recording that does not decode"
        return np.stack(found)[place]

    def _decoded(self, wanted: np.ndarray) -> Iterator[av.VideoFrame]:
        """The frames `wanted` (rising); jumps to a keyframe where one lies nearer than the last frame."""
        decoder = av.CodecContext.create("h264", "r")
        assert isinstance(decoder, av.VideoCodecContext)
        decoder.extradata, decoder.thread_count = self._extradata, 1
        needed, at = set(wanted.tolist()), 0
        for number in wanted.tolist():
            key = int(self._keys[np.searchsorted(self._keys, number, side="right") - 1])
            for step in range(max(at, key), number + 1):
                yield from (frame for frame in decoder.decode(self._packet(step)) if frame.pts in needed)
            at = number + 1
        yield from (frame for frame in decoder.decode(None) if frame.pts in needed)

    def _packet(self, number: int) -> av.Packet:
        offset, size, _ = self._packets[number].tolist()
        packet = av.Packet(self._bytes[offset : offset + size].tobytes())
        packet.pts = packet.dts = number
        return packet


def _matrix(frame: av.VideoFrame) -> Colorspace:
    return Colorspace.ITU709 if frame.colorspace == Colorspace.ITU709 else Colorspace.ITU601


def _rgb(scaling: VideoReformatter, frame: av.VideoFrame, rows: slice, columns: slice) -> np.ndarray:
    return scaling.reformat(frame, format="rgb24", threads=1).to_ndarray()[rows, columns]


def _packets(path: Path) -> np.ndarray:
    with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
        return np.array([(p.pos, p.size, p.is_keyframe) for p in container.demux(video=0) if p.size], np.int64)


def _turned(frame: av.VideoFrame, quarters: int) -> av.VideoFrame:
    """A frame of 4:2:0 turned anticlockwise, plane by plane."""
    upright = [np.rot90(plane(frame, at), quarters) for at in range(3)]
    turned = av.VideoFrame(upright[0].shape[1], upright[0].shape[0], "yuv420p")
    for at, values in enumerate(upright):
        plane(turned, at)[:] = values
    turned.colorspace, turned.color_range = frame.colorspace, frame.color_range
    return turned
