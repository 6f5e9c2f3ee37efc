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
"""Subjects that are compared with all others at once."""
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
        rows = fine_structure(np.stack([glances[i] for i in at]))
        for start in range(0, len(at), ROWS):
            alike = rows[start : start + ROWS] @ rows.T
            for i, j in np.argwhere(np.triu(alike >= ALIKE, k=1 + start)):
                both = subjects[at[start + i]], subjects[at[j]]
                ids, groups = (both[0].subject_id, both[1].subject_id), (both[0].group_id, both[1].group_id)
                found.append(Pair(ids, groups, float(alike[i, j])))
    return sorted(found, key=lambda pair: -pair.correlation)


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
