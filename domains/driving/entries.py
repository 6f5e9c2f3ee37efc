"""What a subject or label looks like in the store, and how to read frames and windows of it.

A subject entry holds its frames, `pts_seconds.npy` (T,) float64, from the recording's start, and `grid.json`. The frame
of a still is `frames.npy` (1, H, W, 3) uint8, red, green, blue as shown; those of a recording's part are a small video
(`stored_video.py`) with `flags.npy` beside it (`quality.py`) and, where there was telemetry, `telemetry.npy` (T, A)
float32 of `telemetry.ACTIONS`, nan where nothing is known. A label entry holds `label.npy`
(T, H, W) uint8 on the same pixels, 255 where nothing is labelled, and for a single frame `native.npy` (H, W) on the
source's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from domains.driving.stored_video import VIDEO, Reader
from domains.recipe import Frozen

STILL_FILE, PTS_FILE, FLAGS_FILE, ACTIONS_FILE = "frames.npy", "pts_seconds.npy", "flags.npy", "telemetry.npy"


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
    """A subject in the store, opened: only the frames that are asked for are read."""

    def __init__(self, folder: Path) -> None:
        self.grid = Grid.load(folder)
        self.pts_seconds: np.ndarray = np.load(folder / PTS_FILE)
        self._video = Reader(folder) if (folder / VIDEO).is_file() else None
        self._still: np.ndarray | None = None if self._video else np.load(folder / STILL_FILE, mmap_mode="r")
        flags = folder / FLAGS_FILE
        self.flags: np.ndarray = np.load(flags) if flags.is_file() else np.zeros(len(self.pts_seconds), np.uint8)
        """(T,) uint8 of `quality.FLAGS`."""
        actions = folder / ACTIONS_FILE
        self.actions: np.ndarray | None = np.load(actions) if actions.is_file() else None

    def __len__(self) -> int:
        """How many frames."""
        return len(self.pts_seconds)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the stored frames."""
        return self.grid.stored_shape

    def read(
        self, indices: Sequence[int] | np.ndarray, rows: slice = slice(None), columns: slice = slice(None)
    ) -> np.ndarray:
        """(N, H, W, 3) uint8: the frames with these indices in [0, len(entry)), or a window of each.

        Of a recording each frame is decoded once, from the keyframe before the first: ask for all at once.
        """
        if self._video is not None:
            return self._video.read(indices, rows, columns)
        assert self._still is not None
        return np.stack([self._still[i, rows, columns] for i in indices])


def covering(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of a frame scaled until it just covers `size`, its aspect kept to within a pixel."""
    scale = max(wanted / length for wanted, length in zip(size, shape, strict=True))
    return max(size[0], round(shape[0] * scale)), max(size[1], round(shape[1] * scale))


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
