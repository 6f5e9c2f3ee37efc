"""Time blocks: of one drive, a stretch of time is held out, and what adjoins it is left out of development."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from domains.errors import UsageError
from domains.manifest import Subject

GAP_SECONDS = 1.0
"""A subject that lies nearer in time to a held-out one is not developed on: the next frame is nearly the same."""
PART = 5
"""One in so many subjects of a recording is held out."""


def time_blocks(subjects: Sequence[Subject], fold: str | None) -> tuple[set[str], set[str]] | None:
    """Ids of the subjects to hold out, and of those too near to them in time; None where no recording has several.

    Subjects say in their facts when they were: `time`, with `recording`, `from_seconds` and `to_seconds`. Of every
    recording one block is held out, a fifth of it, which its content places; of a short one it lies at an end. What
    has no time, or is alone in its recording, is developed on.

    Args:
        subjects: of a few groups, in an order that does not depend on keys.
        fold: "i/n" holds out the i-th (from 1) of n blocks of every recording instead.

    Raises:
        UsageError: no recording has as many subjects as there are folds.
    """
    recordings: dict[tuple[str, str], list[Subject]] = {}
    for subject in subjects:
        if time := subject.facts.get("time"):
            recordings.setdefault((subject.group_id, time["recording"]), []).append(subject)
    several = [sorted(found, key=_when) for found in recordings.values() if len(found) > 1]
    if not several:
        return None
    if fold and max(map(len, several)) < int(fold.split("/")[1]):
        raise UsageError(
            f"no recording has enough parts for {fold.split('/')[1]} folds; use fewer folds or more drives"
        )
    held_out: set[str] = set()
    near: set[str] = set()
    for recording in several:
        first, last = _block(recording, fold)
        block = recording[first:last]
        held_out |= {subject.subject_id for subject in block}
        if block:
            start, end = _span(block[0])[0], max(_span(subject)[1] for subject in block)
            near |= {s.subject_id for s in recording
                     if _span(s)[1] > start - GAP_SECONDS and _span(s)[0] < end + GAP_SECONDS}  # fmt: skip
    near -= held_out
    return held_out, near if len(held_out) + len(near) < len(subjects) else set()


def _block(recording: Sequence[Subject], fold: str | None) -> tuple[int, int]:
    count = len(recording)
    if fold:
        index, folds = (int(number) for number in fold.split("/"))
        return count * (index - 1) // folds, count * index // folds
    size = max(1, count // PART)
    places = count - size + 1 if count >= PART else 2
    place = int(hashlib.sha256(recording[0].content_digest.encode()).hexdigest()[:8], 16) % places
    first = place if count >= PART else place * (count - size)
    return first, first + size


def _span(subject: Subject) -> tuple[float, float]:
    time = subject.facts["time"]
    return time["from_seconds"], time["to_seconds"]


def _when(subject: Subject) -> tuple[float, str]:
    return _span(subject)[0], subject.content_digest
