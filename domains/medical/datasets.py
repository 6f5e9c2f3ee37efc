"""Random crops of stored volumes as batches: place and augmentation of each drawn from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from domains.manifest import Contract, Subject
from domains.medical.augment import augment_crops, may_mirror, moves_of
from domains.medical.draws import Draws
from domains.medical.entries import Entry, LabelEntry, open_entry, open_label
from domains.recipe import Recipe
from ssl_models.protocols import Batch
from ssl_models.tokens import crop_seeds

MOST_PLACES = 4096
"""Voxels kept per subject and kind to centre crops on: enough to be even, small enough to keep in memory."""
CHANNEL_DROPOUT = 0.2
"""Chance that an augmented crop lacks a channel that its subject has; never the first one.

Source: Neverova et al. 2014 (arXiv 1501.00102)."""
_STREAM = 0x5EED_C44
"""Keeps these draws apart from other users of the same seed."""

# an open array may hold a file handle, and an archive has more volumes than a process may have handles
_open_image = lru_cache(maxsize=64)(open_entry)
_open_label = lru_cache(maxsize=64)(open_label)


class _Cut:
    """One subject, opened when it is cut, with the places that crops are centred on."""

    def __init__(self, entry: Path, label: Path | None) -> None:
        self._entry, self._label = entry, label

    @property
    def image(self) -> Entry:
        return _open_image(self._entry)

    @property
    def label(self) -> LabelEntry | None:
        return _open_label(self._label) if self._label is not None else None

    @cached_property
    def head_places(self) -> np.ndarray:
        """(N, 3) voxels in the head."""
        return _some_places(self.image.read_foreground())

    @cached_property
    def label_places(self) -> list[np.ndarray]:
        """(N, 3) voxels of each class that is there."""
        assert self.label is not None
        label = self.label.read()
        return [_some_places(label == c) for c in np.unique(label) if c > 0]

    def centre(self, draw: np.random.Generator, label_share: float) -> np.ndarray:
        """(3,) a voxel of a class (each as likely) for `label_share` of the draws, else of the head."""
        if draw.random() < label_share and self.label_places:
            places = self.label_places[draw.integers(len(self.label_places))]
        else:
            places = self.head_places
        found: np.ndarray = places[draw.integers(len(places))] if len(places) else np.array(self.image.shape) // 2
        return found


class Crops:
    """Crops of a fixed list of subjects; see `CropSource`."""

    def __init__(
        self,
        entries: Sequence[Path],
        labels: Sequence[Path] | None,
        subjects: Sequence[Subject],
        contract: Contract,
        recipe: Recipe,
        augment: bool,
    ) -> None:
        self._cuts = [_Cut(Path(e), Path(labels[i]) if labels else None) for i, e in enumerate(entries)]
        self._group_ids = [subject.group_id for subject in subjects]
        self._labelled, self._augment = labels is not None, augment
        data: Any = recipe.data
        self._label_share = data.label_crop_share if labels is not None else 0.0
        self._flat = len(contract.crop_shape) == 2
        self._mirror, self._moves = may_mirror(contract), moves_of(contract)
        self._neighbours = contract.rules["neighbours"]
        self._channels = len(contract.rules["channels"])
        self._size = (1, *contract.crop_shape) if self._flat else contract.crop_shape

    def __len__(self) -> int:
        return len(self._cuts)

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        """V = `crops` crops of each subject, all around one voxel, each with its own shift and augmentation.

        A crop is centred on a labelled voxel for `label_crop_share` of the labelled crops, else on a voxel of the
        head (so that unlabelled crops hold enough of it), moved back into the volume where it would reach out.

        Args:
            subjects: B indices into the list of subjects.
            seeds: B numbers in [0, 2**62); each decides place and augmentation of its subject's crops alone.
            crops: of each subject.
        """
        own = _own_seeds(seeds, crops)
        cuts = [
            self._cut(self._cuts[i], seed, one) for i, seed, ones in zip(subjects, seeds, own, strict=True)
            for one in ones
        ]  # fmt: skip
        images = torch.from_numpy(np.stack([image for image, _, _ in cuts]))
        inside = torch.from_numpy(np.stack([head for _, head, _ in cuts]))
        labels = [target for _, _, target in cuts if target is not None]
        targets = torch.from_numpy(np.stack(labels)).long() if self._labelled else None
        axes = slice(1, None) if self._flat else slice(None)
        spacing = torch.tensor([self._cuts[i].image.spacing_mm[axes] for i in subjects], dtype=torch.float32)
        sample_seed = torch.tensor(seeds, dtype=torch.int64)
        if self._augment:
            each, millimetres = torch.tensor(own, dtype=torch.int64).flatten(), spacing.repeat_interleave(crops, 0)
            images, targets, found = augment_crops(
                images, targets, inside, each, millimetres, mirror=self._mirror, moves=self._moves,
                channels=self._channels,
            )  # fmt: skip
            assert found is not None
            inside = found
        present = self._present(subjects, sample_seed)
        if present is not None:
            shown = present.repeat_interleave(crops, 0)
            images = images * shown.view(*shown.shape, *[1] * (images.ndim - 2))
        return Batch(
            crops=images.unflatten(0, (-1, crops)),
            sample_seed=sample_seed,
            group_id=tuple(self._group_ids[i] for i in subjects),
            spacing_mm=spacing,
            foreground=inside.unflatten(0, (-1, crops)),
            channels_present=present,
            targets=targets,
        )

    def _present(self, subjects: Sequence[int], sample_seed: torch.Tensor) -> torch.Tensor | None:
        """(B, C) bool, which input channels the subjects have and augmentation left; None where there is one only."""
        if self._channels == 1:
            return None
        present = torch.from_numpy(np.stack([self._cuts[i].image.channels_present for i in subjects]))
        if self._augment:
            dropped = Draws.of(sample_seed, _STREAM).uniform(self._channels) < CHANNEL_DROPOUT
            dropped[:, 0] = False
            present &= ~dropped
        return present.repeat_interleave(2 * self._neighbours + 1, 1)

    def _cut(self, cut: _Cut, seed: int, own: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Crop (C, *S), head (1, *S) bool and target (1, *S) uint8 or None."""
        window = self.window(cut, seed, own)
        if self._flat:
            (start, _), *plane = window
            rows = [(start - self._neighbours, start + self._neighbours + 1), *plane]
            slab = cut.image.read(rows)
            crop = slab.reshape(-1, *slab.shape[2:])
            head = cut.image.read_foreground(window)
            target = cut.label.read(window) if cut.label is not None else None
        else:
            crop = cut.image.read(window)
            head = cut.image.read_foreground(window)[None]
            target = cut.label.read(window)[None] if cut.label is not None else None
        return crop, head, target

    def window(self, cut: _Cut, seed: int, own: int) -> list[tuple[int, int]]:
        """Where a crop lies: `seed` draws the voxel, and if it is not `own` too, that one draws the shift from it."""
        draw = np.random.Generator(np.random.PCG64(seed))
        centre = cut.centre(draw, self._label_share)
        draw = draw if own == seed else np.random.Generator(np.random.PCG64(own))
        shift = draw.random(3) - 0.5
        window = []
        for axis, (size, length) in enumerate(zip(self._size, cut.image.shape, strict=True)):
            # up to a quarter of the crop off centre, or a network learns that tumours lie in the middle
            start = int(centre[axis]) - size // 2 + int(shift[axis] * size / 2)
            # a volume smaller than the crop lies in its middle
            start = min(max(start, 0), length - size) if length >= size else (length - size) // 2
            window.append((start, start + size))
        return window


crops = Crops
"""The domain's word for it."""


def _own_seeds(seeds: Sequence[int], crops: int) -> list[list[int]]:
    """A seed for each crop: the first keeps its subject's, so that it is the same whether it is alone or not."""
    if crops == 1:
        return [[seed] for seed in seeds]
    drawn = crop_seeds(torch.tensor(seeds, dtype=torch.int64), crops - 1).view(len(seeds), -1).tolist()
    return [[seed, *others] for seed, others in zip(seeds, drawn, strict=True)]


def _some_places(inside: np.ndarray) -> np.ndarray:
    """(N, 3) int32 coordinates of evenly chosen true voxels, at most `MOST_PLACES`."""
    flat = np.flatnonzero(inside)
    if len(flat) > MOST_PLACES:
        flat = flat[np.linspace(0, len(flat) - 1, MOST_PLACES).astype(np.int64)]
    return np.stack(np.unravel_index(flat, inside.shape), axis=-1).astype(np.int32)
