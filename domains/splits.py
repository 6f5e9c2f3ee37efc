"""Splits by group: which patients or drives train, and which are held out; a pure function of the split bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domains.errors import GateRefused, UsageError
from domains.manifest import Subject
from domains.time_blocks import time_blocks

TEST_BUCKETS = 200
"""Of 1,000: about a fifth of the groups are held out."""


def split_bucket(namespace: str, group: str | int) -> int:
    """Unkeyed hash of a group, 0..999: the same on every machine, and too coarse to name anybody."""
    return int(hashlib.sha256(f"{namespace}/{group}".encode()).hexdigest()[:12], 16) % 1000


@dataclass(frozen=True)
class Split:
    """Development and held-out subjects of a manifest."""

    development: tuple[Subject, ...]
    test: tuple[Subject, ...]
    within_group: bool
    """True when there were fewer than three groups, so that subjects, not groups, were held out."""


def split(subjects: Sequence[Subject], fold: str | None = None) -> Split:
    """Held-out and development subjects, both in an order that does not depend on the key of their ids.

    A group is held out when its bucket is below 200 of 1,000. When chance leaves one side empty, the fifth of the
    groups with the lowest buckets (at least one) is held out. With fewer than three groups the subjects take the
    groups' place and the split says so; subjects that follow each other in a recording are held out as blocks of time,
    and those next to a block are on neither side (`time_blocks.py`).

    Args:
        subjects: of a manifest.
        fold: "i/n" holds out the i-th (from 1) of n equal parts of the groups in the order of their buckets instead,
            so that n folds together hold out every group once.

    Raises:
        UsageError: fewer groups than folds.
    """
    subjects = sorted(subjects, key=_unkeyed)
    groups = {s.group_id for s in subjects}
    within_group = len(groups) < 3
    if within_group and (blocks := time_blocks(subjects, fold)) is not None:
        test = tuple(s for s in subjects if s.subject_id in blocks[0])
        return Split(tuple(s for s in subjects if s.subject_id not in blocks[0] | blocks[1]), test, within_group)

    def unit(subject: Subject) -> tuple[int, str]:
        if within_group:
            return split_bucket("within-group", subject.content_digest), subject.subject_id
        return subject.split_bucket, subject.group_id

    units = sorted(dict.fromkeys(unit(s) for s in subjects), key=lambda u: u[0])  # then in the order of the content
    held_out = _part(units, fold) if fold else {u for u in units if u[0] < TEST_BUCKETS}
    if not held_out or len(held_out) == len(units):
        held_out = set(units[: max(1, len(units) // 5)]) if len(units) > 1 else set()
    test = tuple(s for s in subjects if unit(s) in held_out)
    development = tuple(s for s in subjects if unit(s) not in held_out)
    return Split(development, test, within_group)


def budget_units(subjects: Sequence[Subject], single: bool) -> tuple[Subject, ...]:
    """The subjects as a label budget counts them: by group, or each as a group of its own where they are `single`."""
    if not single:
        return tuple(subjects)
    own = [{"group_id": s.subject_id, "split_bucket": split_bucket("subject", s.content_digest)} for s in subjects]
    return tuple(s.model_copy(update=changed) for s, changed in zip(subjects, own, strict=True))


def label_budget(
    subjects: Sequence[Subject], budget: int | None, seed: int, strata: Mapping[str, int] | None = None, *,
    single: bool = False,
) -> tuple[Subject, ...]:  # fmt: skip
    """Subjects of the first `budget` groups in a seeded order: nested (3 in 10 in 30), equal for every arm.

    Where they are `single`, the first `budget` subjects.
    """
    return labelled_by(budget_order(budget_units(subjects, single), seed, strata)[:budget], subjects, single)


def labelled_by(units: Sequence[str], subjects: Sequence[Subject], single: bool) -> tuple[Subject, ...]:
    """The subjects of these groups, or these subjects where they are `single`, in an order without keys."""
    chosen = set(units)
    return tuple(s for s in sorted(subjects, key=_unkeyed) if unit_of(s, single) in chosen)


def unit_of(subject: Subject, single: bool) -> str:
    """What a label budget counts a subject as."""
    return subject.subject_id if single else subject.group_id


def budget_order(subjects: Sequence[Subject], seed: int, strata: Mapping[str, int] | None = None) -> list[str]:
    """Every group of the subjects in the seeded order in which label budgets take them; the same under every key.

    Args:
        subjects: of a manifest.
        seed: of the order.
        strata: group -> class. Then the classes take turns, the highest first, each in the seeded order, until one is
            used up; so every budget is as balanced as it can be.
    """
    ordered = sorted(subjects, key=lambda s: (split_bucket(f"budget-{seed}", s.split_bucket), _unkeyed(s)))
    groups = list(dict.fromkeys(s.group_id for s in ordered))
    if strata is None:
        return groups
    turns: dict[int, int] = {}
    place = {}
    for group in groups:
        turns[strata[group]] = place[group] = turns.get(strata[group], 0) + 1
    return sorted(groups, key=lambda group: (place[group], -strata[group]))


def _unkeyed(subject: Subject) -> tuple[int, str]:
    """A subject's place by bucket and content: equal in every home, whatever its key."""
    return subject.split_bucket, subject.content_digest


def _part(units: Sequence[tuple[int, str]], fold: str) -> set[tuple[int, str]]:
    index, count = (int(number) for number in fold.split("/"))
    if len(units) < count:
        raise UsageError(f"{len(units)} groups cannot make {count} folds; use fewer folds or ingest more groups")
    return set(units[len(units) * (index - 1) // count : len(units) * index // count])


def refuse_leak(*, trained_groups: set[str], trained_digests: set[str], evaluated: Sequence[Subject]) -> None:
    """Raises GateRefused when an evaluated subject's group or pixels were trained on with labels."""
    groups = {s.group_id for s in evaluated} & trained_groups
    pixels = {s.subject_id for s in evaluated if s.content_digest in trained_digests}
    if groups or pixels:
        raise GateRefused(
            f"leak: {len(groups)} groups and {len(pixels)} subjects of this evaluation were trained on "
            f"({', '.join(sorted(groups | pixels)[:3])} ...); evaluate on other patients or drives"
        )
