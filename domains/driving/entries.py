"""What a subject or label looks like in the store, and how to read frames and windows of it.

A subject entry holds `frames.npy` (T, H, W, 3) uint8, red, green, blue as shown; `pts_seconds.npy` (T,) float64, from
the recording's first frame; `grid.json`. A single frame is a recording with T = 1. A label entry holds `label.npy`
(T, H, W) uint8 on the same pixels, 255 where nothing is labelled, and for a single frame `native.npy` (H, W) on the
source's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from domains.recipe import Frozen


class Grid(Frozen):
    """Sizes of an entry's frames, (H, W) in pixels."""

    stored_shape: tuple[int, int]
    native_shape: tuple[int, int]
    """Of the source."""

    def save(self, folder: Path) -> None:
        (folder / "grid.json").write_text(self.model_dump_json())

    @classmethod
    def load(cls, folder: Path) -> Grid:
        return cls.model_validate_json((folder / "grid.json").read_text())


class Entry:
    """A subject in the store, opened: frames lie one after the other, and only what is asked for is read."""

    def __init__(self, folder: Path) -> None:
        self.grid = Grid.load(folder)
        self._frames: np.ndarray = np.load(folder / "frames.npy", mmap_mode="r")
        self.pts_seconds: np.ndarray = np.load(folder / "pts_seconds.npy")

    def __len__(self) -> int:
        """How many frames."""
        return len(self.pts_seconds)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the stored frames."""
        return self.grid.stored_shape

    def read(self, indices: Sequence[int], rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """(N, H, W, 3) uint8: the frames with these indices in [0, len(entry)), or a window of each."""
        return np.stack([self._frames[i, rows, columns] for i in indices])


def open_entry(folder: Path) -> Entry:
    """A subject entry."""
    return Entry(Path(folder))


def open_label(folder: Path) -> np.ndarray:
    """(T, H, W) uint8 classes on the stored grid, 255 where nothing is labelled; read when indexed."""
    label: np.ndarray = np.load(Path(folder) / "label.npy", mmap_mode="r")
    return label


def judged_label(folder: Path) -> np.ndarray:
    """What a prediction is judged against: a frame's (H, W) on its native grid, a recording's (T, H, W) as stored."""
    native = Path(folder) / "native.npy"
    label: np.ndarray = np.load(native) if native.is_file() else np.load(Path(folder) / "label.npy")
    return label


def glance(folder: Path) -> np.ndarray:
    """(1, T, 64, 64) float32: a frame, or eight of a recording's evenly spaced, in grey, in means over cells."""
    import torch
    from torch.nn import functional as F

    entry = open_entry(folder)
    some = entry.read(np.unique(np.linspace(0, len(entry) - 1, 8).round().astype(int))).mean(-1, dtype=np.float32)
    return F.adaptive_avg_pool2d(torch.from_numpy(some)[None], (64, 64)).numpy()


def normalised(frames: np.ndarray, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """(T, H, W, 3) uint8 -> (3, T, H, W) float32 as a network gets it; mean and deviation are of values in 0..1."""
    scale = 1 / (255 * np.asarray(deviation, np.float32))
    values = frames * scale - np.asarray(mean, np.float32) / np.asarray(deviation, np.float32)
    return np.ascontiguousarray(np.moveaxis(values.astype(np.float32, copy=False), -1, 0))
