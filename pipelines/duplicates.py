"""duplicates: which subjects are nearly the same image - one scan saved twice, rescaled, noisy - and which stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from domains.domain import Domain
from domains.errors import RecipeError
from domains.manifest import Subject
from domains.store import Store
from pipelines.progress import Progress

ALIKE = 0.9
"""Correlation of two subjects' fine structure from which they are near-duplicates (docs/log.md has the figures)."""
AROUND = 5
"""Side of the neighbourhood, in cells of a glance, whose mean is taken off: what is left is fine structure."""
ROWS = 1024
"""Subjects that are compared with as many others at once."""
SHADOW = 128
"""Numbers that a subject's fine structure is looked at by first."""
SAMPLE = 512
"""Subjects at most that these numbers are chosen by; at most every eighth."""
SLACK = 0.01
"""What rounding may take from a bound, and more."""
FILE = "glance.npy"


@dataclass(frozen=True)
class Pair:
    """Two near-duplicates, in an order that does not depend on keys."""

    subjects: tuple[str, str]
    groups: tuple[str, str]
    correlation: float


def near_duplicates(store: Store, domain: Domain, subjects: Sequence[Subject]) -> list[Pair]:
    """Pairs of subjects whose fine structure correlates by `ALIKE` or more, the most alike first.

    Of each subject a small copy of the whole is looked at, without its local mean: intensity, contrast and anatomy that
    all subjects share are then gone, and what is left of two patients does not agree. A pair is judged by itself:
    whatever else is in the archive changes nothing. Small copies are kept in the store.

    Args:
        store: has the subjects, and takes their small copies.
        domain: whose `glance` is used.
        subjects: any.

    Raises:
        RecipeError: the domain has no glance at its subjects.

    Source: perceptual hashing in the manner of Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
        Functions".
    Differs: correlation of high-passed copies instead of bits, which many patients share.
    """
    if domain.glance is None:
        raise RecipeError(f"the domain {domain.name} has no glance at its subjects to tell near-duplicates by")
    glances = _glances(store, domain, subjects)
    found = []
    for shape in sorted({glance.shape for glance in glances}):
        at = [i for i, glance in enumerate(glances) if glance.shape == shape]
        parts = [np.stack([glances[i] for i in at[start : start + ROWS]]) for start in range(0, len(at), ROWS)]
        for i, j, correlation in alike(np.concatenate([fine_structure(part) for part in parts])):
            both = subjects[at[i]], subjects[at[j]]
            ids, groups = (both[0].subject_id, both[1].subject_id), (both[0].group_id, both[1].group_id)
            found.append(Pair(ids, groups, correlation))
    return sorted(found, key=lambda pair: -pair.correlation)


def alike(rows: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs i < j of rows (N, E), of length 1 or 0, whose product is `ALIKE` or more, with it: all of them.

    Few pairs are multiplied in full. Of each row comes first its shadow on `SHADOW` directions, and the length of what
    is left: by Cauchy and Schwarz, x . y is at most x' . y' + |x - x'| |y - y'|, whatever the directions. Those in
    which a sample varies most leave little over, so that the bound tells nearly all pairs apart.
    """
    shadows = _shadows(rows)
    found: list[tuple[int, int, float]] = []
    for a in range(0, len(rows), ROWS):
        for b in range(a, len(rows), ROWS):
            left, right = rows[a : a + ROWS], rows[b : b + ROWS]
            bound = shadows[a : a + ROWS] @ shadows[b : b + ROWS].T
            i, j = np.divmod(np.flatnonzero(bound >= ALIKE - SLACK), bound.shape[1])
            i, j = (i, j) if a < b else (i[i < j], j[i < j])
            many = len(i) > bound.size / 64  # a product of all is then quicker than one a pair
            products = (left @ right.T)[i, j] if many else np.einsum("ij,ij->i", left[i], right[j])
            close = products >= ALIKE
            found += zip((a + i[close]).tolist(), (b + j[close]).tolist(), products[close].tolist(), strict=True)
    return found


def _shadows(rows: np.ndarray) -> np.ndarray:
    """(N, E) -> (N, SHADOW + 1) or fewer: places on orthonormal directions, and the length of what they leave over."""
    sample = rows[:: max(8, len(rows) // SAMPLE)]
    directions = np.linalg.svd(sample, full_matrices=False)[2][:SHADOW]
    places = rows @ directions.T
    left_over = np.einsum("ij,ij->i", rows, rows) - np.einsum("ij,ij->i", places, places)
    return np.concatenate([places, np.sqrt(left_over.clip(min=0))[:, None]], axis=1)


def fine_structure(glances: np.ndarray) -> np.ndarray:
    """(N, C, D, H, W) -> (N, C * D * H * W) float32 without local means, of mean 0 and length 1: products correlate."""
    small = torch.from_numpy(glances.astype(np.float32))
    sides = [AROUND if cells >= AROUND else 1 for cells in small.shape[2:]]
    pads = [side // 2 for side in sides]
    around = F.avg_pool3d(small, sides, stride=1, padding=pads, count_include_pad=False)
    rows = (small - around).flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    return F.normalize(rows, dim=1, eps=1e-3).numpy()  # an empty image is like no other


def without_near_duplicates(
    subjects: Sequence[Subject], pairs: Sequence[Pair], held_out: Sequence[Subject]
) -> tuple[Subject, ...]:
    """The subjects without those that are nearly a held-out one or one before them that stays."""
    alike: dict[str, set[str]] = {}
    for pair in pairs:
        for mine, other in (pair.subjects, pair.subjects[::-1]):
            alike.setdefault(mine, set()).add(other)
    kept, taken = [], {subject.subject_id for subject in held_out}
    for subject in subjects:
        if not alike.get(subject.subject_id, set()) & taken:
            taken.add(subject.subject_id)
            kept.append(subject)
    return tuple(kept)


def _glances(store: Store, domain: Domain, subjects: Sequence[Subject]) -> list[np.ndarray]:
    """One small copy a subject, from the store where it is there."""
    glance = domain.glance
    assert glance is not None

    def write(subject: Subject, out: Path) -> dict[str, Any]:
        np.save(out / FILE, glance(store.path("ingest", subject.entry)).astype(np.float16))
        return {}

    found = []
    with Progress("near-duplicates", len(subjects), unit="subjects") as progress:
        for subject in subjects:
            key = store.key("glance", [domain.name, domain.version, subject.entry])
            found.append(np.load(store.build("glance", key, partial(write, subject)) / FILE))
            progress.advance()
    return found
