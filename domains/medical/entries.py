"""What a subject or label looks like in the store, and how to read windows of it.

A subject entry holds `image.b2nd` (C, D, H, W) int16, `foreground.b2nd` (D, H, W) uint8 and `grid.json`, and only when
a channel of the recipe is missing, which is stored as zeros, `channels.json` with the ones that are there. A label
entry holds `label.b2nd` (D, H, W) uint8, `grid.json` and, only when the stored grid is another one, `native.b2nd`. An
X-ray has one slice and `stated.json` beside it, its label is `findings.json` alone (`xray_images.py`,
`xray_findings.py`).

Two grids: *stored* is the grid of training (resampled by the contract), *native* the volume as read: canonical
orientation, axes (D, H, W), before resampling. Predictions and metrics are made on the native grid.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import blosc2
import numpy as np

from domains.manifest import Contract
from domains.medical.resample import resample_probabilities
from domains.recipe import Frozen

STEPS = 512
"""Stored int16 value = normalised value * 512: the range of -8..8 in steps of 0.002."""

CHANNELS_FILE = "channels.json"

Window = Sequence[tuple[int, int]]
"""One (start, stop) per spatial axis of the stored grid; may reach beyond the volume."""


class Grid(Frozen):
    """Both grids of an entry. Axes (D, H, W); spacings in mm."""

    stored_shape: tuple[int, int, int]
    stored_spacing_mm: tuple[float, float, float]
    native_shape: tuple[int, int, int]
    native_spacing_mm: tuple[float, float, float]
    spacing_known: bool
    """False: the spacing is nominal, so nothing may be reported in mm or ml."""
    axes: str = "SAR"
    """D, H, W as letters of R, A, S: "SAR" for axial slices, "RSA" for sagittal ones."""

    def save(self, folder: Path) -> None:
        (folder / "grid.json").write_text(self.model_dump_json())

    @classmethod
    def load(cls, folder: Path) -> Grid:
        return cls.model_validate_json((folder / "grid.json").read_text())


class Entry:
    """A subject in the store, opened: windows are decompressed when they are read."""

    def __init__(self, folder: Path) -> None:
        self.grid = Grid.load(folder)
        self._folder = folder
        self._image = _open(folder / "image.b2nd")
        self._foreground = _open(folder / "foreground.b2nd")

    @property
    def channels(self) -> int:
        return int(self._image.shape[0])

    @cached_property
    def channels_present(self) -> np.ndarray:
        """(C,) bool, False where the subject lacks a channel of the recipe; that one is zero everywhere."""
        file = self._folder / CHANNELS_FILE
        present = json.loads(file.read_text())["present"] if file.exists() else [True] * self.channels
        return np.array(present, dtype=bool)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W) of the stored grid."""
        return self.grid.stored_shape

    @property
    def native_shape(self) -> tuple[int, int, int]:
        return self.grid.native_shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Of the stored grid, (D, H, W)."""
        return self.grid.stored_spacing_mm

    @property
    def native_spacing_mm(self) -> tuple[float, float, float]:
        return self.grid.native_spacing_mm

    @property
    def spacing_known(self) -> bool:
        return self.grid.spacing_known

    def read(self, window: Window | None = None) -> np.ndarray:
        """(C, *window) float32, normalised (foreground: median 0, robust deviation 1); edges repeat outside."""
        values = _read(self._image, self._whole(window), lead=1, mode="edge")
        normalised: np.ndarray = np.multiply(values, np.float32(1 / STEPS), dtype=np.float32)
        return normalised

    def read_foreground(self, window: Window | None = None) -> np.ndarray:
        """(*window) bool, where the head is; False outside the volume."""
        return _read(self._foreground, self._whole(window), lead=0, mode="constant").astype(bool)

    def slices(self, indices: Sequence[int], neighbours: int) -> np.ndarray:
        """(len(indices), C * (2 * neighbours + 1), H, W) float32: 2D inputs as the contract's kind "2d" has them.

        The channel axis is channel-major: channel 0 at offsets -n..n, channel 1 at offsets -n..n, ...; the slice
        itself is channel c * (2n + 1) + n. The first and last slice repeat beyond the ends.
        """
        _, height, width = self.shape
        first, last = min(indices) - neighbours, max(indices) + neighbours + 1
        slab = self.read([(first, last), (0, height), (0, width)])
        offsets = np.arange(-neighbours, neighbours + 1)
        take = np.asarray(indices)[:, None] - first + offsets
        return np.moveaxis(slab[:, take], 0, 1).reshape(len(indices), -1, height, width)

    def model_input(self, contract: Contract) -> np.ndarray:
        """The whole subject as a model takes it: (D, in_channels, H, W) for 2D crops, else (1, C, D, H, W)."""
        if len(contract.crop_shape) == 2:
            return self.slices(range(self.shape[0]), contract.rules["neighbours"])
        return self.read()[None]

    def to_native(self, probabilities: np.ndarray) -> np.ndarray:
        """(K, *stored shape) -> (K, *native shape) float32, linear."""
        return resample_probabilities(probabilities, self.native_shape)

    def _whole(self, window: Window | None) -> Window:
        return [(0, size) for size in self.shape] if window is None else window


class LabelEntry:
    """A label in the store, opened."""

    def __init__(self, folder: Path) -> None:
        self.grid = Grid.load(folder)
        self._folder = folder
        self._label = _open(folder / "label.b2nd")

    def read(self, window: Window | None = None) -> np.ndarray:
        """(*window) uint8 classes on the stored grid; background outside the volume."""
        window = [(0, size) for size in self.grid.stored_shape] if window is None else window
        return _read(self._label, window, lead=0, mode="constant")

    @cached_property
    def native(self) -> np.ndarray:
        """(D, H, W) uint8 classes on the native grid: what a prediction is judged against."""
        file = self._folder / "native.b2nd"
        array: np.ndarray = (_open(file) if file.exists() else self._label)[...]
        return array

    @property
    def native_spacing_mm(self) -> tuple[float, float, float]:
        return self.grid.native_spacing_mm

    @property
    def spacing_known(self) -> bool:
        return self.grid.spacing_known


def open_entry(folder: Path) -> Entry:
    """A subject entry."""
    return Entry(Path(folder))


def open_label(folder: Path) -> LabelEntry:
    """A label entry."""
    return LabelEntry(Path(folder))


def _open(file: Path) -> blosc2.NDArray:
    return blosc2.open(str(file), mode="r", dparams={"nthreads": 1})


def _read(array: blosc2.NDArray, window: Window, *, lead: int, mode: str) -> np.ndarray:
    """The window of the last three axes, padded where it reaches outside; only the chunks it touches are read."""
    inside, pad = [slice(None)] * lead, [(0, 0)] * lead
    for (start, stop), size in zip(window, array.shape[lead:], strict=True):
        low, high = max(start, 0), min(stop, size)
        if low >= high:
            raise ValueError(f"window {tuple(window)} does not touch the volume {array.shape[lead:]}")
        inside.append(slice(low, high))
        pad.append((low - start, stop - high))
    values: np.ndarray = array[tuple(inside)]
    return np.pad(values, pad, mode=mode) if any(p != (0, 0) for p in pad) else values  # type: ignore[call-overload]
