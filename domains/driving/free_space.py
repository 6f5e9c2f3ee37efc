"""Free space: how far the road ahead is clear, in rows of the frame, in the corridor that the own car will fill.

Nothing is calibrated: the horizon is taken to lie in the middle row and the road to run to its middle column, under a
camera 1.4 m above it; a corridor 2 m wide then narrows evenly from the bottom to there. Rows are no metres, and at the
horizon one row is many of them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from domains.driving.classes import ROAD_CLASSES, VOID

HORIZON, CAMERA_HEIGHT_M, CORRIDOR_M = 0.5, 1.4, 2.0
CLEAR = 0.8
"""Share of the corridor's labelled pixels in a row that are road: a person 0.5 m wide leaves less."""
BONNET = 0.25
"""Of the frame's height: up to there the own car may hide the road."""
ROAD = ROAD_CLASSES.index("Road")


@lru_cache(maxsize=8)
def corridor(shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels of the corridor of a frame of that shape."""
    height, width = shape
    below = np.arange(height) + 0.5 - HORIZON * height
    half = below * CORRIDOR_M / 2 / CAMERA_HEIGHT_M
    away = np.abs(np.arange(width) + 0.5 - width / 2)
    inside: np.ndarray = (below > 0)[:, None] & (away <= np.maximum(half, 0.5)[:, None])
    return inside


def free_rows(classes: np.ndarray) -> int:
    """How many rows from the bottom the corridor is clear: to the first row that is not, or to the horizon.

    Rows of the own bonnet count as clear where road begins above it. A row without any labelled pixel is as the one
    below it.

    Args:
        classes: (H, W) uint8 of the road scene; 255 is not labelled.
    """
    height = len(classes)
    inside = corridor((height, classes.shape[1]))
    known = (inside & (classes != VOID)).sum(1)
    road = (inside & (classes == ROAD)).sum(1)
    smooth = 2 * (height // 200) + 1  # a thin wrong row is no obstacle
    share = ndimage.uniform_filter1d(road.astype(float), smooth) / np.maximum(
        ndimage.uniform_filter1d(known.astype(float), smooth), 1e-9
    )
    clear = ((share >= CLEAR) | (known == 0))[height - inside.any(1).sum() :][::-1]  # from the bottom upwards
    labelled = (known > 0)[height - len(clear) :][::-1]
    seen = np.flatnonzero(clear & labelled)
    if not len(seen) or seen[0] > BONNET * height:
        return 0
    blocked = np.flatnonzero(~clear[seen[0] :])
    return int(seen[0] + (blocked[0] if len(blocked) else len(clear) - seen[0]))
