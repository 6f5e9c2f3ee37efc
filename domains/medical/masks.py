"""NIfTI masks that readers drew on DICOM series: which series each belongs to, by where its voxels lie.

Viewers (3D Slicer, ITK-SNAP) keep the series' grid, perhaps with axes turned round, and let the reader name the file.
So a mask must lie on the grid of its series, and where its path names a patient or a series, of no other one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from domains.domain import Candidate
from domains.errors import Refused
from domains.medical.header import read_header
from domains.medical.sources import space_of
from domains.medical.space import SAME_GRID, Space, corner_gap_mm, described

MOST_GRIDS = 3
"""Named in a reason."""


@dataclass
class Given:
    """What became of masks; every one is in exactly one of the three."""

    labels: dict[int, Path] = field(default_factory=dict)
    """Number of a candidate -> its mask."""
    ignored: dict[Path, str] = field(default_factory=dict)
    refused: dict[Path, str] = field(default_factory=dict)
    names: dict[Path, Sequence[str]] = field(default_factory=dict)
    """Refused mask -> candidates that it could belong to."""


def give(masks: Sequence[Path], candidates: Sequence[Candidate], slices: Sequence[Path], source: Path) -> Given:
    """Each mask to the candidate on whose grid it lies, among those in the deepest folder that it shares with DICOM.

    Args:
        masks: NIfTI files that are masks and have no NIfTI image.
        candidates: DICOM series that are taken.
        slices: every DICOM file, taken or not: a mask beside a series that is not taken is no mask of another one.
        source: folder that holds all of them.
    """
    given, spaces = Given(), _Spaces(candidates)
    folders = {folder for path in slices for folder in path.parents}
    for path in masks:
        home = next((folder for folder in path.parents if folder in folders), source)
        near = [n for n, one in enumerate(candidates) if any(home in image.parents for image in one.images.values())]
        near = _named(path, near, candidates, source)
        try:
            space = read_header(path)
        except Refused as refusal:
            given.refused[path] = refusal.reason
            continue
        grids = {n: grid for n in near if (grid := spaces[n]) is not None}
        fitting = [n for n, grid in grids.items() if same_grid(space, grid)]
        if not fitting:
            given.refused[path] = _fits_none(space, list(grids.values()))
        elif len(fitting) > 1:
            given.refused[path] = (
                f"lies on the grid of {len(fitting)} series alike, and its name does not tell whose it is"
            )
            given.names[path] = [candidates[n].name for n in fitting]
        elif candidates[fitting[0]].label is not None or fitting[0] in given.labels:
            given.ignored[path] = "a second mask of its series"
        else:
            given.labels[fitting[0]] = path
    return given


def same_grid(space: Space, other: Space) -> bool:
    """Whether both are one grid once their axes are brought into one order: one shape, corners within half a voxel."""
    (shape, spacing), (wanted, _) = space.canonical_grid, other.canonical_grid
    gap = corner_gap_mm(shape, space.canonical_affine, other.canonical_affine)
    return shape == wanted and gap <= SAME_GRID * min(spacing)


class _Spaces:
    """Grids of the candidates, each read when it is first asked for; None where its headers make no volume."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates, self._known = candidates, dict[int, Space | None]()

    def __getitem__(self, number: int) -> Space | None:
        if number not in self._known:
            candidate = self._candidates[number]
            try:
                self._known[number] = space_of(candidate, next(iter(candidate.images)).partition("/")[0])
            except Refused:
                self._known[number] = None  # ingest refuses the series itself, with the reason
        return self._known[number]


def _named(mask: Path, near: Sequence[int], candidates: Sequence[Candidate], source: Path) -> list[int]:
    """Those of whom a mask's path says most: ids of patient, study and series, folders; all where it says nothing."""
    text = mask.relative_to(source).as_posix()

    def said(number: int) -> int:
        one = candidates[number]
        folders = next(iter(one.images.values())).relative_to(source).parts[:-1]
        ids = {*one.name.split("/"), *folders}
        return sum(bool(re.search(rf"(?<![a-z0-9]){re.escape(i)}(?![a-z0-9])", text, re.I)) for i in ids)

    counts = {number: said(number) for number in near}
    return [number for number, count in counts.items() if count == max(counts.values())]


def _fits_none(space: Space, grids: Sequence[Space]) -> str:
    known = list(dict.fromkeys(described(grid.shape, grid.affine) for grid in grids))
    more = f" and {len(known) - MOST_GRIDS} more" if len(known) > MOST_GRIDS else ""
    there = "no series beside it is taken"
    if known:
        there = f"the series there has {'; another '.join(known[:MOST_GRIDS])}{more}"
    return f"a mask on the grid of no series: it has {described(space.shape, space.affine)}; {there}"
