"""What is wrong with the frames of a recording: black, frozen, blurred, standing still, cut to another scene.

Measured on the stored luma while a recording is read, so that no frame is looked at twice and none is kept but as the
means of its cells. The flags lie in the store (`flags.npy`, (T,) uint8 of `FLAGS`): random clips avoid what they mark.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

FLAGS: Mapping[str, int] = {"black": 1, "frozen": 2, "standing": 4, "blurred": 8, "cut": 16, "corrupt": 32}
"""Name -> bit. "cut": the scene changes between the frame before and this one."""
WEIGHTS: Mapping[str, float] = {"black": 0.05, "frozen": 0.05, "standing": 0.2, "blurred": 0.3, "corrupt": 0.3}
"""How often a frame is drawn as the first of a clip, against one without a flag; the least of its flags holds."""

CELL = 8
"""Side in pixels of the cells whose means tell frames apart: the noise of a sensor is gone in them."""
BLACK_LEVEL, BLACK_SPREAD = 30.0, 6.0
"""Luma (16..235) under which, and standard deviation under which, a frame shows nothing: a covered lens."""
FROZEN_LEVELS = 0.05
"""Mean change of a pixel to the frame before: less is the same picture again."""
MOVED_LEVELS, MOVED_SHARE, OVER_SECONDS = 3.0, 0.07, 0.5
"""A cell has changed by so many levels, over so many seconds; with fewer than this share changed the car stands. (On an
empty motorway at full speed it is 0.11 and more, in a jam at a standstill 0.03.)"""
BLURRED = 0.35
"""Of the recording's usual sharpness."""
CUT_LEVELS, CUT_LIKENESS = 15.0, 0.4
"""A new scene: cells change by so much from one frame to the next, and correlate less than that."""
FLAT_LEVELS = 3.0
"""Standard deviation of cells under which a frame shows no scene that could be cut."""


class Quality:
    """Takes the frames of a recording in order, and knows at the end what each of them is."""

    def __init__(self) -> None:
        self._light: list[float] = []
        self._spread: list[float] = []
        self._sharpness: list[float] = []
        self._flags: list[int] = []
        self._seconds: list[float] = []
        self._last: np.ndarray | None = None
        self._earlier: deque[tuple[float, np.ndarray]] = deque()

    def add(self, luma: np.ndarray, seconds: float, corrupt: bool) -> None:
        """The next frame: (H, W) uint8 luma, its time, and whether the decoder had to guess a part of it."""
        grey = luma.astype(np.float32)
        cells = _cells(grey)
        self._light.append(float(grey.mean()))
        self._spread.append(float(grey.std()))
        self._sharpness.append(_sharpness(grey))
        flags = FLAGS["corrupt"] if corrupt else 0
        if self._light[-1] < BLACK_LEVEL and self._spread[-1] < BLACK_SPREAD:
            flags |= FLAGS["black"]
        if self._last is not None:
            if np.abs(grey - self._last).mean() < FROZEN_LEVELS:
                flags |= FLAGS["frozen"]
            elif _is_cut(self._earlier[-1][1], cells):
                flags |= FLAGS["cut"]
        self._earlier.append((seconds, cells))
        while len(self._earlier) > 1 and self._earlier[1][0] <= seconds - OVER_SECONDS:
            self._earlier.popleft()
        since, before = self._earlier[0]
        if seconds - since >= OVER_SECONDS / 2 and (np.abs(cells - before) > MOVED_LEVELS).mean() < MOVED_SHARE:
            flags |= FLAGS["standing"]
        self._flags.append(flags)
        self._seconds.append(seconds)
        self._last = grey

    def flags(self) -> np.ndarray:
        """(T,) uint8 of `FLAGS`, also of what only the whole recording tells: sharpness against its usual one."""
        flags, sharpness = np.array(self._flags, np.uint8), np.array(self._sharpness)
        seen = (flags & FLAGS["black"]) == 0
        usual = np.median(sharpness[seen]) if seen.any() else 0.0
        flags[seen & (sharpness < BLURRED * usual)] |= np.uint8(FLAGS["blurred"])
        return flags

    def facts(self) -> dict[str, Any]:
        """For the manifest: seconds under each flag, how many cuts, and the usual light, contrast and sharpness."""
        flags, steps = self.flags(), _durations(np.array(self._seconds))
        spans = {f"{name}_seconds": round(float(steps[(flags & FLAGS[name]) > 0].sum()), 2)
                 for name in ("black", "frozen", "standing", "blurred")}  # fmt: skip
        usual = {
            "brightness": round(float(np.mean(self._light)), 2),
            "contrast": round(float(np.mean(self._spread)), 2),
            "sharpness": round(float(np.median(self._sharpness)), 2),
        }
        return {**spans, "scene_cuts": int(((flags & FLAGS["cut"]) > 0).sum()), "quality": usual}


def weights(flags: np.ndarray) -> np.ndarray:
    """(T,) float64 in (0, 1]: how often a frame is drawn, by its flags."""
    found = np.ones(len(flags))
    for name, weight in WEIGHTS.items():
        found[(flags & FLAGS[name]) > 0] = np.minimum(found[(flags & FLAGS[name]) > 0], weight)
    return found


def cuts(flags: np.ndarray) -> np.ndarray:
    """(T,) int64: how many scene cuts lie before each frame; two frames with the same number are of one scene."""
    return np.cumsum((flags & FLAGS["cut"]) > 0)


def _durations(seconds: np.ndarray) -> np.ndarray:
    """(T,) how long each frame is shown: till the next; the last one as long as usual."""
    if len(seconds) < 2:
        return np.zeros(len(seconds))
    steps = np.diff(seconds)
    return np.append(steps, np.median(steps))


def _cells(grey: np.ndarray) -> np.ndarray:
    """(h, w) float32 means over cells of `CELL` pixels; a frame smaller than a cell is one."""
    rows, columns = (max(1, side // CELL) for side in grey.shape)
    high, wide = grey.shape[0] // rows, grey.shape[1] // columns
    whole = grey[: rows * high, : columns * wide].reshape(rows, high, columns, wide)
    return whole.mean((1, 3))


def _sharpness(grey: np.ndarray) -> float:
    """Standard deviation of the Laplacian, in levels."""
    inner = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(inner.std())


def _is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    if np.abs(after - before).mean() < CUT_LEVELS:
        return False
    a, b = before - before.mean(), after - after.mean()
    spread = float(a.std() * b.std())
    return spread > FLAT_LEVELS**2 and float((a * b).mean()) / spread < CUT_LIKENESS
