"""Video files: what the header says, which frames there are without decoding any, and the frames of a stretch of time.

Only files on this disk are opened. Seconds count from the start that the container states, so that every part of a
recording has the same clock.
"""

from __future__ import annotations

import hashlib
import logging
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import av
import numpy as np

from domains.driving.readers import MOST_PIXELS
from domains.errors import Refused

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,matroska,webm,avi,mpeg"}
"""A playlist under a video's name could open other files or the network: neither its format nor a protocol is taken."""
MOST_SECONDS, MOST_FRAMES = 24 * 3600.0, 24 * 3600 * 240
"""That a header may declare; what says more is not one recording."""

# damaged files make the decoder print a line a frame; what matters is counted
logging.getLogger("libav").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Header:
    """What a container says of itself before any frame is looked at."""

    shape: tuple[int, int]
    """(H, W) as coded, before it is turned upright."""
    container: str
    codec: str
    start_seconds: float
    """Of the first frame on the container's own clock: what all seconds here are counted from."""
    seconds: float | None
    """Declared length."""
    frames: int
    """Declared number; 0 where none is."""
    frames_per_second: float | None
    """Declared rate."""


@dataclass(frozen=True)
class Index:
    """Which frames a file holds, from its packets alone, whatever its header declares."""

    pts_seconds: np.ndarray
    """(N,) float64, rising: of every frame that is shown."""
    keys: np.ndarray
    """(K, 2) of the keyframes in the order of the file: seconds, and the same in the stream's ticks."""
    out_of_order: int
    """Frames with the time of another one, or without one."""
    recording: str
    """8 hex digits that tell recordings apart by times and sizes of their frames: no name is in them."""


@dataclass(frozen=True)
class Picture:
    """One decoded frame as the decoder has it."""

    frame: av.VideoFrame
    seconds: float
    rotation: int
    """Degrees, anticlockwise, that turn it upright: 0, 90, 180 or 270."""

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8, upright; converted when asked for."""
        return np.ascontiguousarray(np.rot90(self.frame.to_ndarray(format="rgb24"), self.rotation // 90))


def video_header(path: Path) -> Header:
    """What the container says; asked of a file once.

    Raises:
        Refused: not a video of a known kind, without a picture, or of an absurd size or length.
    """
    return _header(path, *_stamp(path))


def video_index(path: Path) -> Index:
    """Times of all frames, by reading a file from end to end without decoding; asked of a file once.

    Raises:
        Refused: see `video_header`; or it holds no frame.
    """
    with _indexing:  # parts of one file are read side by side
        return _index(path, *_stamp(path))


def pictures(path: Path, damage: Counter[str], start: float = 0.0, end: float = math.inf) -> Iterator[Picture]:
    """Every frame of a stretch of time that can be decoded, in the order shown, with the timestamps of the file.

    Decoding begins at the keyframe before `start`. Where the file's index leads elsewhere, it begins with the file.

    Args:
        path: of the file.
        damage: counts `corrupt_frames`, which the decoder marks (it conceals damage without an error), `lost_packets`,
            which it cannot decode, and `frames_out_of_order`, which are left out.
        start: in seconds; frames before it are left out. 0: from the first one.
        end: in seconds; of the first frame left out.

    Raises:
        Refused: not a video of a known kind, no frame in that time, no timestamps, turned by an odd angle, or of
            changing size.
    """
    index = video_index(path)
    expected = index.pts_seconds[np.searchsorted(index.pts_seconds, start) :]
    if start > 0 and not (len(expected) and expected[0] < end):
        raise Refused("no frame in this part of it")
    before = index.keys[index.keys[:, 0] <= expected[0]] if start > 0 else index.keys[:0]
    found = _decoded(path, damage, start, end, int(before[-1, 1]) if len(before) else None)
    first = next(found, None)
    if len(before) and (first is None or first.seconds > expected[0] + 1e-6):  # an index that leads elsewhere
        damage.clear()
        found = _decoded(path, damage, start, end, None)
        first = next(found, None)
    if first is not None:
        yield first
        yield from found


def plane(frame: av.VideoFrame, at: int) -> np.ndarray:
    """(h, w) uint8 view of one plane of a planar frame of 8 bits."""
    found = frame.planes[at]
    return np.frombuffer(memoryview(found), np.uint8).reshape(-1, found.line_size)[: found.height, : found.width]


def _decoded(path: Path, damage: Counter[str], start: float, end: float, seek_to: int | None) -> Iterator[Picture]:
    origin = video_header(path).start_seconds
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # files are read side by side; concealment depends on the threads
        if seek_to is not None:
            try:
                container.seek(seek_to, stream=stream, backward=True)
            except av.error.FFmpegError:
                return
        last: Picture | None = None
        for frame in _frames(container, stream, damage):
            if frame.time is None:
                raise Refused("frames without timestamps")
            seconds = float(frame.time) - origin
            if seconds >= end:
                return
            if abs(seconds) > MOST_SECONDS:
                raise Refused("timestamps more than a day apart: not trusted")
            if start > 0 and seconds < start:
                continue
            picture = Picture(frame, seconds, _upright(frame))
            if last is not None and (frame.height, frame.width) != (last.frame.height, last.frame.width):
                raise Refused("changes its resolution in mid-stream")
            damage["corrupt_frames"] += int(frame.is_corrupt)
            if last is not None and seconds <= last.seconds:
                damage["frames_out_of_order"] += 1
                continue
            last = picture
            yield picture


def _frames(
    container: av.container.InputContainer, stream: av.VideoStream, damage: Counter[str]
) -> Iterator[av.VideoFrame]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the container ends in the middle of something
            damage["lost_packets"] += 1
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            damage["lost_packets"] += 1


def _upright(frame: av.VideoFrame) -> int:
    if frame.rotation % 90:
        raise Refused(f"recorded turned by {frame.rotation} degrees: turn it upright first")
    return int(frame.rotation % 360)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=1024)
def _header(path: Path, size: int, mtime_ns: int) -> Header:
    with _opened(path) as container:
        stream = container.streams.video[0]
        context, base = stream.codec_context, stream.time_base
        seconds = float(stream.duration * base) if stream.duration and base else None
        if seconds is None and container.duration:
            seconds = container.duration / av.time_base
        if (seconds or 0) > MOST_SECONDS or stream.frames > MOST_FRAMES:
            raise Refused(f"declares {seconds or 0:.0f} s and {stream.frames} frames, more than a day's: not trusted")
        start = float(stream.start_time * base) if stream.start_time is not None and base else 0.0
        name = container.format.name.split(",")[0]
        return Header(
            shape=(context.height, context.width), container={"mov": "mp4"}.get(name, name), codec=context.name,
            start_seconds=start, seconds=seconds if seconds and seconds > 0 else None, frames=stream.frames,
            frames_per_second=float(stream.average_rate) if stream.average_rate else None,
        )  # fmt: skip


_indexing = Lock()


@lru_cache(maxsize=8)
def _index(path: Path, size: int, mtime_ns: int) -> Index:
    origin = video_header(path).start_seconds
    times = array("d")  # an hour has a hundred thousand
    keys: list[tuple[float, int]] = []
    sizes, unknown = hashlib.sha256(), 0
    with _opened(path) as container:
        stream = container.streams.video[0]
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                break
            if packet is None:
                break
            if not packet.size or packet.is_discard:  # the end, or what an edit of the file leaves out
                continue
            pts = packet.dts if packet.pts is None else packet.pts
            if pts is None:
                unknown += 1
                continue
            seconds = float(pts * packet.time_base) - origin
            times.append(seconds)
            sizes.update(packet.size.to_bytes(8, "little"))
            if packet.is_keyframe:
                keys.append((seconds, pts))
    if not times and not unknown:
        raise Refused("no frame in it")
    shown = np.unique(np.array(times, np.float64))
    sizes.update(shown.round(3).tobytes())
    return Index(
        shown, np.array(keys, np.float64).reshape(-1, 2), len(times) - len(shown) + unknown, sizes.hexdigest()[:8]
    )


def _opened(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path.absolute()), options=OPTIONS)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise Refused(f"not a video file that can be read ({type(error).__name__})") from None
    streams = container.streams.video
    if not streams:
        container.close()
        raise Refused("no picture in it: sound or data only")
    context = streams[0].codec_context
    if context is None or not 0 < context.width * context.height <= MOST_PIXELS:
        container.close()
        raise Refused("no decoder for its picture, or an absurd size")
    return container
