"""Random crops of stored frames and clips as batches: time, place and augmentation of each drawn from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from domains.driving.augment import augment, is_mirrored, mirrored_actions, placed
from domains.driving.classes import VOID
from domains.driving.clips import clip_indices, possible_starts
from domains.driving.entries import normalised, open_entry, open_label
from domains.driving.heads import TARGETS
from domains.driving.quality import cuts
from domains.driving.quality import weights as quality_weights
from domains.driving.recipes import settings
from domains.driving.shapes import UNLABELLED, Shapes, moved, open_shapes, shifting
from domains.manifest import Contract, Subject
from domains.recipe import Recipe
from ssl_models.protocols import Batch

SCALE = (0.75, 1.5)
"""Side of an augmented crop's window in the stored frame, in sides of the crop; the frame's own size is the most."""

# an open array holds a file handle, and an archive has more recordings than a process may have handles
_open_entry = lru_cache(maxsize=64)(open_entry)
_open_label = lru_cache(maxsize=64)(open_label)
_open_shapes = lru_cache(maxsize=64)(open_shapes)


@dataclass(frozen=True)
class _Crop:
    image: np.ndarray
    """(3, *S)."""
    label: np.ndarray | None
    """(1, *S), or what the head makes of shapes."""
    seconds: np.ndarray
    """(T,)."""
    actions: np.ndarray
    """(T, A), nan where nothing is known; A = 0 where the contract has none."""


class Crops:
    """Crops of a fixed list of frames or recordings; see `CropSource`."""

    def __init__(
        self,
        entries: Sequence[Path],
        labels: Sequence[Path] | None,
        subjects: Sequence[Subject],
        contract: Contract,
        recipe: Recipe,
        augment: bool,
    ) -> None:
        self._entries = [Path(entry) for entry in entries]
        self._labels = None if labels is None else [Path(label) for label in labels]
        self._group_ids = [subject.group_id for subject in subjects]
        self._targets = TARGETS.get(recipe.head)
        self._augment = augment
        self._clips = contract.time_axis
        self._frames = contract.crop_shape[0] if contract.time_axis else 1
        self._shape = (contract.crop_shape[-2], contract.crop_shape[-1])
        self._frames_per_second = contract.rules["frames_per_second"] or 1.0
        self._actions = contract.actions
        self._colour = contract.rules["colour_mean"], contract.rules["colour_deviation"]
        self._max_gap_seconds = settings(recipe).max_gap_seconds
        self._starts: dict[int, np.ndarray] = {}
        self._weights: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        """V = `crops` crops of each subject; those of a recording begin within `max_gap_seconds` of each other.

        A clip has its frames at the contract's rate, each the nearest in time; a labelled one holds a labelled frame.

        Args:
            subjects: B indices into the list of subjects.
            seeds: B numbers in [0, 2**62); each decides time, place and augmentation of its subject's crops alone.
            crops: of each subject.
        """
        cut = [one for at, seed in zip(subjects, seeds, strict=True) for one in self._cut(at, seed, crops)]
        images, seconds, actions = (
            torch.from_numpy(np.stack(part)).unflatten(0, (-1, crops))
            for part in zip(*((one.image, one.seconds, one.actions) for one in cut), strict=True)
        )
        labels = [one.label for one in cut if one.label is not None]
        return Batch(
            crops=images,
            sample_seed=torch.tensor(list(seeds), dtype=torch.int64),
            group_id=tuple(self._group_ids[at] for at in subjects),
            seconds=seconds if self._clips else None,
            foreground=torch.ones_like(images[:, :, :1], dtype=torch.bool),
            actions=actions if self._actions else None,
            targets=_targets(labels) if labels else None,
        )

    def _cut(self, at: int, seed: int, crops: int) -> list[_Crop]:
        """The crops of one subject."""
        entry = _open_entry(self._entries[at])
        label = None if self._labels is None else self._open(self._labels[at])
        draws = [np.random.default_rng([seed, number] if number else seed) for number in range(crops)]
        indices = self._times(at, draws)
        frames = entry.read(indices.ravel()).reshape(*indices.shape, *entry.shape, 3)  # each is decoded once
        known = np.full((len(entry), len(self._actions)), np.nan, np.float32)
        known = entry.actions if self._actions and entry.actions is not None else known
        cut = zip(frames, indices, draws, strict=True)
        return [self._crop(f, label, i, d, known[i], entry.pts_seconds[i]) for f, i, d in cut]

    def _times(self, at: int, draws: Sequence[np.random.Generator]) -> np.ndarray:
        """(V, T) frames of as many crops of a subject."""
        pts, starts, weights = _open_entry(self._entries[at]).pts_seconds, self.starts(at), self._weights[at]
        chosen = [_drawn(starts, weights, draws[0])]
        # within half the gap of the first, so that no two are farther apart than the gap
        near = np.abs(pts[starts] - pts[chosen[0]]) <= self._max_gap_seconds / 2
        chosen += [_drawn(starts[near], weights[near], draw) for draw in draws[1:]]
        return clip_indices(pts, np.array(chosen), self._frames, self._frames_per_second)

    def starts(self, at: int) -> np.ndarray:
        """Frames of a subject at which a clip may begin: within the recording, over no gap or scene cut, with a label
        if any has.
        """
        if at not in self._starts:
            entry = _open_entry(self._entries[at])
            pts = entry.pts_seconds
            starts = possible_starts(pts, self._frames, self._frames_per_second, cuts(entry.flags))
            if self._labels is not None:
                labelled = _labelled(self._open(self._labels[at]), len(pts))
                indices = clip_indices(pts, starts, self._frames, self._frames_per_second)
                having = labelled[indices].any(1)
                starts = starts[having] if having.any() else starts
            indices = clip_indices(pts, starts, self._frames, self._frames_per_second)
            self._weights[at] = quality_weights(entry.flags)[indices].mean(1)
            self._starts[at] = starts
        return self._starts[at]

    def _open(self, folder: Path) -> np.ndarray | Shapes:
        return _open_label(folder) if self._targets is None else _open_shapes(folder)

    def _crop(
        self, frames: np.ndarray, label: np.ndarray | Shapes | None, indices: np.ndarray, draw: np.random.Generator,
        actions: np.ndarray, seconds: np.ndarray,
    ) -> _Crop:  # fmt: skip
        rows, columns = self._window(frames.shape[1:3], draw)
        frames = frames[:, rows, columns]
        classes = np.stack([label[i, rows, columns] for i in indices]) if isinstance(label, np.ndarray) else None
        matrix = placed(frames.shape[1:3], self._shape, mirrored=False, angle=0)
        if self._augment:
            frames, classes, matrix = augment(frames, classes, self._shape, draw)
        image = normalised(frames, *self._colour)
        if isinstance(label, Shapes):
            target: np.ndarray | None = self._shapes_cut(label, indices, rows, columns, matrix)
        else:
            target = classes[None] if self._clips and classes is not None else classes
        actions = mirrored_actions(actions, self._actions) if is_mirrored(matrix) else actions
        return _Crop(image if self._clips else image[:, 0], target, seconds, actions)

    def _shapes_cut(
        self, label: Shapes, indices: np.ndarray, rows: slice, columns: slice, matrix: np.ndarray
    ) -> np.ndarray:
        """The head's targets: of a frame, or one for each frame of a clip."""
        assert self._targets is not None
        to_window = shifting(columns.start, rows.start)
        each = []
        for frame in indices.tolist():
            known = frame in label.labelled
            cut = [moved(moved(shape, to_window), matrix) for shape in label.on(frame)] if known else []
            target = self._targets(cut, self._shape)
            each.append(target if known else np.full_like(target, UNLABELLED))
        return np.stack(each) if self._clips else each[0]

    def _window(self, size: tuple[int, ...], draw: np.random.Generator) -> tuple[slice, slice]:
        """Rows and columns of a window anywhere in a frame: of the crop's shape, or near it if augmented."""
        scale = float(np.exp(draw.uniform(*np.log(SCALE)))) if self._augment else 1.0
        scale = min(scale, *(whole / side for whole, side in zip(size, self._shape, strict=True)))
        sides = [min(whole, round(side * scale)) for whole, side in zip(size, self._shape, strict=True)]
        corner = [int(draw.integers(whole - side + 1)) for whole, side in zip(size, sides, strict=True)]
        rows, columns = (slice(low, low + side) for low, side in zip(corner, sides, strict=True))
        return rows, columns


def _targets(labels: Sequence[np.ndarray]) -> torch.Tensor:
    """Classes of pixels as whole numbers, what was made of shapes as it is."""
    stacked = torch.from_numpy(np.stack(labels))
    return stacked if stacked.is_floating_point() else stacked.long()


def _labelled(label: np.ndarray | Shapes, frames: int) -> np.ndarray:
    """(T,) bool: on which frames something is known."""
    if isinstance(label, Shapes):
        return np.isin(np.arange(frames), label.labelled)
    known: np.ndarray = (label != VOID).any((1, 2))
    return known


def _drawn(starts: np.ndarray, weights: np.ndarray, draw: np.random.Generator) -> int:
    """One of the starts, as often as its weight says."""
    if len(starts) == 1:
        return int(starts[0])
    upto = np.cumsum(weights)
    return int(starts[min(np.searchsorted(upto, draw.random() * upto[-1], side="right"), len(starts) - 1)])


crops = Crops
"""The domain's word for it."""
