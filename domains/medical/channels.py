"""The channels of a subject on one grid: the first gives it, others are resampled onto it or are missing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from domains.domain import Candidate
from domains.errors import Refused
from domains.medical.quality import check_channel, check_header
from domains.medical.readers import Volume
from domains.medical.resample import onto_grid
from domains.medical.sources import files_of, read_channel, space_of
from domains.medical.space import SAME_GRID, corner_gap_mm, described

COVERED = 0.5
"""Share of the head of the first channel that another one must reach."""


@dataclass(frozen=True)
class Channel:
    """One channel of a subject, checked."""

    volume: Volume
    """(1, D, H, W)."""
    inside: np.ndarray
    """(D, H, W) bool, where the head is."""


def read_channels(candidate: Candidate, names: tuple[str, ...]) -> tuple[dict[str, Channel], dict[str, Channel]]:
    """The channels that a candidate has: as read, and on the grid of the first one.

    What lies on another grid is resampled by the affines that the files state. Nothing is registered: a patient who
    moved between two series is not moved back. Where a channel does not reach, it has the median of its head inside the
    first one's head, which normalisation turns into about zero (what a missing channel is), and air around it.

    Raises:
        Refused: a channel cannot be read or is not fit for use, the first is missing, or another one lies elsewhere.
    """
    read: dict[str, Channel] = {}
    for name in names:
        if files_of(candidate, name):
            check_header(space_of(candidate, name))
            volume = read_channel(candidate, name)
            read[name] = Channel(volume, check_channel(volume))
    if names[0] not in read:
        raise Refused(f"channel {names[0]} is missing")
    return read, {name: _on_grid_of(read[names[0]], channel, names[0], name) for name, channel in read.items()}


def refuse_other_grid(volume: Volume, reference: Volume, *, what: str) -> None:
    """Raises Refused, naming both grids, unless both volumes have one shape and corners within half a voxel."""
    both = f"has {_grid(volume)}, its image {_grid(reference)}"
    if volume.data.shape[1:] != reference.data.shape[1:]:
        raise Refused(f"{what} {both}")
    if not _same_grid(volume, reference):
        gap = corner_gap_mm(reference.data.shape[1:], volume.affine, reference.affine)
        raise Refused(f"{what} lies {gap:.1f} mm away from its image: it {both}")


def _on_grid_of(first: Channel, channel: Channel, first_name: str, name: str) -> Channel:
    mine, theirs = channel.volume, first.volume
    if _same_grid(mine, theirs):
        return channel
    if not (mine.spacing_known and theirs.spacing_known):  # then the affines say nothing about where voxels lie
        refuse_other_grid(mine, theirs, what=f"channel {name}, of nominal spacing,")
    shape, onto = theirs.data.shape[1:], theirs.affine
    values, reached = onto_grid(mine.data[0], mine.affine, shape, onto)
    covered = float((first.inside & reached).sum() / max(first.inside.sum(), 1))
    if covered < COVERED:
        raise Refused(
            f"channel {name} ({_grid(mine)}) covers {covered:.0%} of the head in {first_name} ({_grid(theirs)}), and "
            f"at least {COVERED:.0%} are needed; if they belong together they must be registered first"
        )
    unknown = np.where(first.inside, np.median(mine.data[0][channel.inside]), mine.data.min())
    head, _ = onto_grid(channel.inside, mine.affine, shape, onto)
    moved = replace(
        mine,
        data=np.where(reached, values, unknown)[None].astype(np.float32),
        affine=onto,
        spacing_mm=theirs.spacing_mm,
    )
    return Channel(moved, (head >= 0.5) & reached)


def _same_grid(volume: Volume, reference: Volume) -> bool:
    shape = reference.data.shape[1:]
    if volume.data.shape[1:] != shape:
        return False
    return corner_gap_mm(shape, volume.affine, reference.affine) <= SAME_GRID * min(reference.spacing_mm)


def _grid(volume: Volume) -> str:
    return described(volume.data.shape[1:], volume.affine)
