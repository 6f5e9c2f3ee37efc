"""A part of a recording, read once: each frame decoded, hashed, measured, scaled and encoded before the next."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from domains.domain import Candidate
from domains.driving.entries import FLAGS_FILE, PTS_FILE, Grid, covering
from domains.driving.quality import FLAGS, Quality
from domains.driving.readers import image_frames
from domains.driving.stored_video import Writer
from domains.driving.video import Picture, pictures, plane, video_header, video_index
from domains.errors import Refused

GAP_STEPS = 2.5
"""Two frames farther apart than so many usual steps have a gap between them."""
UNEVEN = 0.2
"""Of the usual step: where every tenth step differs by more, the frame rate is variable."""


EVERYWHERE = 0.98
"""Share of a part's frames that are black, frozen or damaged from which it is refused."""
PLAIN = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray")
"""Pixel formats hashed as decoded; others as red, green and blue."""


@dataclass(frozen=True)
class Place:
    """Where in its recording a part lies."""

    recording: str
    """Hex digits that tell recordings apart; no name is in them."""
    first_frame: int
    """Number of the part's first frame in the recording, from 0, as label files count."""
    recording_frames: int


@dataclass(frozen=True)
class Written:
    """What `write_recording` gives beside the files."""

    grid: Grid
    pts_seconds: np.ndarray
    """(T,) from the recording's start."""
    place: Place
    facts: dict[str, Any]
    digest: str
    """sha256 of the decoded frames and their times: equal whatever the container or codec."""


def write_recording(candidate: Candidate, size: tuple[int, int], folder: Path) -> Written:
    """Writes the entry of a recording's part (see `entries.py`), a frame at a time.

    Args:
        candidate: with `video`, or with numbered frames and their `seconds`; `part` in its notes is (from, to) in
            seconds from the recording's start.
        size: (H, W) that stored frames cover.
        folder: where to write.

    Raises:
        Refused: no frame of it can be decoded, or nothing is to be seen in any.
    """
    damage, quality, digest, seconds = Counter[str](), Quality(), hashlib.sha256(), list[float]()
    found = source_pictures(candidate, damage)
    first = next(found, None)
    if first is None:
        raise Refused("no frame could be decoded")
    native = _shape(first)
    grid = Grid(stored_shape=even(covering(native, size)), native_shape=native)
    with Writer(folder, grid.stored_shape) as writer:
        for picture in itertools.chain([first], found):
            if _shape(picture) != native:
                raise Refused("its frames differ in size")
            digest.update(repr((native, round(picture.seconds, 3))).encode())
            _hash(picture.frame, digest)
            luma = writer.add(picture.frame, picture.rotation, picture.seconds)
            quality.add(luma, picture.seconds, picture.frame.is_corrupt)
            seconds.append(picture.seconds)
    flags, pts = quality.flags(), np.array(seconds, np.float64)
    _refuse_nothing_seen(flags)
    np.save(folder / PTS_FILE, pts)
    np.save(folder / FLAGS_FILE, flags)
    grid.save(folder)
    place, about = _place(candidate, pts, damage)
    facts = {"shape": list(native), **_times(pts), **about, **quality.facts(), "rotation_degrees": first.rotation}
    return Written(grid, pts, place, facts, digest.hexdigest())


def source_pictures(candidate: Candidate, damage: Counter[str]) -> Iterator[Picture]:
    """The frames of a candidate's files, or of its part of them; `damage` counts as in `pictures`."""
    if "video" in candidate.images:
        yield from pictures(candidate.images["video"], damage, *candidate.notes.get("part", ()))
        return
    paths = list(candidate.images.values())
    seconds = candidate.notes.get("seconds", range(len(paths)))
    origin = candidate.notes.get("origin", seconds[0])
    for frame in image_frames(paths, seconds):
        yield Picture(av.VideoFrame.from_ndarray(frame.rgb, format="rgb24"), frame.seconds - origin, 0)


def _place(candidate: Candidate, pts: np.ndarray, damage: Counter[str]) -> tuple[Place, dict[str, Any]]:
    """Where the part lies, and what its file says against what was found in it."""
    if "video" not in candidate.images:
        notes = candidate.notes
        total = notes.get("recording_frames", len(pts))
        return Place(notes.get("recording", ""), notes.get("first_frame", 0), total), {"container": "image files"}
    path = candidate.images["video"]
    header, index = video_header(path), video_index(path)
    start, end = candidate.notes.get("part", (0.0, math.inf))
    first, stop = (int(np.searchsorted(index.pts_seconds, at)) if at else 0 for at in (start, end))
    about = {
        "container": header.container,
        "codec": header.codec,
        "declared_frames_per_second": round(header.frames_per_second, 3) if header.frames_per_second else None,
        "variable_rate": _is_uneven(index.pts_seconds),
        "declared_frames_in_file": header.frames or None,
        "frames_in_file": len(index.pts_seconds),
        "missing_frames": max(0, stop - first - len(pts)),
        "corrupt_frames": damage["corrupt_frames"],
        "lost_packets": damage["lost_packets"],
        "frames_out_of_order": damage["frames_out_of_order"] + index.out_of_order,
    }
    return Place(index.recording, first, len(index.pts_seconds)), about


def _times(pts: np.ndarray) -> dict[str, Any]:
    """Figures of the timestamps, as the data quality sheet shows them."""
    facts: dict[str, Any] = {"frames": len(pts), "seconds": round(float(pts[-1] - pts[0]), 3)}
    if len(pts) > 1:
        steps = np.diff(pts)
        usual = float(np.median(steps))
        facts |= {
            "frames_per_second": round(1 / usual, 3),
            "longest_step_seconds": round(float(steps.max()), 3),
            "gaps": int((steps > GAP_STEPS * usual).sum()),
        }
    return facts


def _is_uneven(pts: np.ndarray) -> bool:
    """Whether the frame rate is variable: every tenth step or more differs from the usual one."""
    if len(pts) < 3:
        return False
    steps = np.diff(pts)
    usual = float(np.median(steps))
    return bool((np.abs(steps - usual) > UNEVEN * usual).mean() >= 0.1)


def _refuse_nothing_seen(flags: np.ndarray) -> None:
    if ((flags & FLAGS["corrupt"]) > 0).mean() >= EVERYWHERE:
        raise Refused("damaged from beginning to end: the decoder guessed in every frame")
    if ((flags & FLAGS["black"]) > 0).mean() >= EVERYWHERE:
        raise Refused("black from beginning to end")
    if len(flags) > 2 and ((flags[1:] & FLAGS["frozen"]) > 0).mean() >= EVERYWHERE:
        raise Refused("one and the same picture from beginning to end")


def _shape(picture: Picture) -> tuple[int, int]:
    """(H, W) of the frame when it is upright."""
    shape = picture.frame.height, picture.frame.width
    return shape[::-1] if picture.rotation % 180 else shape


def even(shape: tuple[int, int]) -> tuple[int, int]:
    """The sides rounded up: 4:2:0 has a colour for two pixels by two."""
    return shape[0] + shape[0] % 2, shape[1] + shape[1] % 2


def _hash(frame: av.VideoFrame, digest: Any) -> None:
    name = frame.format.name
    if name in PLAIN:
        digest.update(name.replace("yuvj", "yuv").encode())
        for at in range(len(frame.planes)):
            digest.update(np.ascontiguousarray(plane(frame, at)))
    else:
        digest.update(np.ascontiguousarray(frame.to_ndarray(format="rgb24")))
