"""A recording cut into parts of a minute at most: each is read by itself, and a split by time can hold some out."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from domains.domain import Candidate
from domains.driving.recipes import DrivingData
from domains.driving.video import video_header, video_index
from domains.errors import Refused

MOST_SECONDS, FEWEST = 60.0, 5
"""A part is no longer, and a recording has no fewer where they do not get shorter than `shortest`."""


PART_MARK = "@"
"""Between a recording's name and a part's number."""


def edges(seconds: float, shortest: float) -> list[float]:
    """Where parts of equal length begin and end, from 0 to `seconds`."""
    count = min(max(FEWEST, math.ceil(seconds / MOST_SECONDS)), max(1, int(seconds / shortest)))
    return [seconds * at / count for at in range(count + 1)]


def shortest(data: DrivingData) -> float:
    """Seconds of the shortest part: one, or what a clip needs with room for its frames not to lie as wished."""
    return max(1.0, 1.25 * data.clip_frames / data.frames_per_second)


def cut(whole: Candidate, data: DrivingData) -> list[Candidate]:
    """The parts of a recording as candidates, with what a reader needs in their notes.

    Of a video: `part`, (from, to) in seconds from its start; the last one is open, since a header may say too little.
    Of numbered frames: their own files and `seconds`, `origin` in the same seconds, `first_frame` and
    `recording_frames`, `recording`. A video whose header cannot be read stays whole, and is refused by its reader.
    """
    if "video" not in whole.images:
        return _cut_frames(whole, data)
    path = whole.images["video"]
    try:
        length = video_header(path).seconds
        if length is None:  # a live stream written to a file says nothing
            length = float(video_index(path).pts_seconds[-1])
    except Refused:
        return [whole]
    at = [*edges(length, shortest(data))[:-1], math.inf]
    return _numbered(whole, [{"part": span} for span in itertools.pairwise(at)])


def _cut_frames(whole: Candidate, data: DrivingData) -> list[Candidate]:
    seconds = np.array(whole.notes["seconds"], np.float64)
    since = seconds - seconds[0]
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    at = edges(float(since[-1]) + step, max(shortest(data), data.clip_frames * step))
    about = {"origin": float(seconds[0]), "recording_frames": len(seconds), "recording": _told_by(whole)}
    inside = np.searchsorted(since, at[:-1]).tolist()
    spans = [(first, last) for first, last in zip(inside, [*inside[1:], len(seconds)], strict=True) if last > first]
    notes = [{**about, "first_frame": a, "seconds": tuple(seconds[a:b].tolist())} for a, b in spans]
    names = list(whole.images)
    parts = _numbered(whole, notes)
    return [replace(part, images={name: whole.images[name] for name in names[a:b]})
            for part, (a, b) in zip(parts, spans, strict=True)]  # fmt: skip


def _numbered(whole: Candidate, notes: Sequence[dict[str, object]]) -> list[Candidate]:
    if len(notes) == 1:
        return [replace(whole, notes={**whole.notes, **notes[0]})]
    return [
        replace(whole, name=f"{whole.name}{PART_MARK}{number:03d}", notes={**whole.notes, **one})
        for number, one in enumerate(notes, 1)
    ]


def _told_by(whole: Candidate) -> str:
    """8 hex digits that tell recordings apart by the times and sizes of their files; no name is in them."""
    sizes = [path.stat().st_size for path in whole.images.values()]
    return hashlib.sha256(repr((whole.notes["seconds"], sizes)).encode()).hexdigest()[:8]
