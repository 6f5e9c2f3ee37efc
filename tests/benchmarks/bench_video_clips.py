"""Random clips a second from the store, against pytorchvideo and careful PyAV on the source, and sequential decoding.

A clip is 8 frames at 10 a second of a generated drive of 1280 x 720 at 30 a second; one thread each, files in the page
cache. pytorchvideo and PyAV read the source (a keyframe a second), as one does without a store. Prints one JSON object.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from pytorchvideo.data.encoded_video import EncodedVideo
from scipy import ndimage

from domains.domain import Candidate
from domains.driving.clips import clip_indices, possible_starts
from domains.driving.entries import open_entry
from domains.driving.recording import write_recording
from domains.driving.stored_video import VIDEO, Reader

SHAPE, SECONDS, RATE = (720, 1280), 20, 30
SIZE = (240, 320)
FRAMES, PER_SECOND = 8, 10.0
MEASURED_SECONDS = 6.0
"""Per reader."""

Clip = Callable[[float], Any]


def run() -> dict[str, Any]:
    """Clips a second per reader, their ratios, and the share of what decoding from end to end gives."""
    with tempfile.TemporaryDirectory() as name:
        source, folder = Path(name) / "drive.mp4", Path(name) / "entry"
        folder.mkdir()
        write_drive(source)
        write_recording(Candidate("drive", "drive", {"video": source}), SIZE, folder)
        entry = open_entry(folder)
        starts = possible_starts(entry.pts_seconds, FRAMES, PER_SECOND)

        def indices(start: float) -> np.ndarray:
            first = starts[int(start * len(starts))]
            return clip_indices(entry.pts_seconds, np.array([first]), FRAMES, PER_SECOND)[0]

        encoded = EncodedVideo.from_path(str(source), decode_audio=False, decoder="pyav")
        readers: dict[str, Clip] = {
            "store": lambda start: entry.read(indices(start)),
            "pytorchvideo": lambda start: _get_clip(encoded, entry.pts_seconds[indices(start)]),
            "pyav": lambda start: careful_clip(source, entry.pts_seconds[indices(start)], entry.shape),
        }
        rates = {reader: _rate(clip) for reader, clip in readers.items()}
        decoded = np.mean([_decoded(entry._video, indices(start)) for start in np.linspace(0, 0.999, 200)])
        sequential = _sequential(folder / VIDEO, len(entry))
    return {
        "clips_per_second": {reader: round(rate, 1) for reader, rate in rates.items()},
        "store_over_pytorchvideo": round(rates["store"] / rates["pytorchvideo"], 1),
        "store_over_pyav": round(rates["store"] / rates["pyav"], 1),
        "sequential_frames_per_second": round(sequential),
        "decoded_frames_per_clip": round(float(decoded), 1),
        "decoded_share_of_sequential": round(rates["store"] * float(decoded) / sequential, 2),
        "delivered_share_of_sequential": round(rates["store"] * FRAMES / sequential, 2),
    }


def write_drive(path: Path, seconds: int = SECONDS, shape: tuple[int, int] = SHAPE, codec: str = "libx264") -> None:
    """A textured scene that shifts by three pixels a frame, with a sensor's noise; a keyframe a second."""
    draw, count = np.random.default_rng(0), seconds * RATE
    period = 4 * shape[1]
    texture = ndimage.gaussian_filter(draw.normal(0, 1, (shape[0], period, 3)), (2, 4, 0), mode="wrap")
    scene = (texture / np.abs(texture).max() * 110 + 125).astype(np.uint8)
    noise = draw.integers(-4, 5, (8, *shape, 3)).astype(np.int8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={"preset": "veryfast", "g": str(RATE)})
        stream.height, stream.width, stream.pix_fmt = *shape, "yuv420p"
        stream.codec_context.thread_count = 2
        for number in range(count):
            at = 3 * number % (period - shape[1])
            pixels = scene[:, at : at + shape[1]] + noise[number % 8].astype(np.int16)
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def careful_clip(path: Path, times: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Frames at `times`: one seek, decoding stops behind the last, only what is wanted is converted and scaled."""
    scaling, found = VideoReformatter(), []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(times[0] / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if abs(frame.time - times[len(found)]) < 1e-3:
                found.append(scaling.reformat(frame, shape[1], shape[0], "rgb24", threads=1).to_ndarray())
                if len(found) == len(times):
                    break
    return np.stack(found)


def _get_clip(encoded: Any, times: np.ndarray) -> Any:
    """pytorchvideo's window, native size, of which the wanted frames are taken; nothing is scaled."""
    found = encoded.get_clip(float(times[0]), float(times[-1]) + 0.5 / RATE)["video"]
    at = np.round((times - times[0]) * RATE).astype(int).clip(0, found.shape[1] - 1)
    return found[:, at]


def _decoded(reader: Reader, indices: np.ndarray) -> int:
    key = reader._keys[np.searchsorted(reader._keys, indices[0], side="right") - 1]
    return int(indices[-1] - key + 1)


def _rate(clip: Clip) -> float:
    draw, count, began = np.random.default_rng(0), 0, time.perf_counter()
    while time.perf_counter() - began < MEASURED_SECONDS or count < 5:
        clip(draw.random())
        count += 1
    return count / (time.perf_counter() - began)


def _sequential(path: Path, frames: int) -> float:
    """Frames a second of decoding alone, from end to end, without a conversion."""
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < MEASURED_SECONDS:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for _ in container.decode(video=0):
                pass
        count += frames
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    print(json.dumps(run()))
