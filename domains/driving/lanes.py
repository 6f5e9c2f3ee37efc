"""Lanes as arrays: slots counted from the middle of the picture, an x for each row; to and from points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domains.driving.shapes import Shape

SIDE = 3
"""Lanes told apart on each side of the middle."""
SLOTS = 2 * SIDE
"""From left to right; the own lane lies between the slots 2 and 3. A further lane has no slot and is not learned."""
LOWEST = 5
"""Points at a lane's lower end that say where it would leave the picture."""
THERE = 0.5
"""Probability from which on a lane is said to be there."""
FEWEST_ROWS = 3
"""In which a lane must be there to be one at all."""
STRAY = 3.0
"""Distance, in the distance of two rows, from the curve through a lane's rows beyond which a row is not believed."""


def lanes_at(shapes: Sequence[Shape], rows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(SLOTS, R) float32 x of each lane at the rows `rows` (R,), nan where it is not, or not in the picture.

    A lane's slot is its place to the left or right of the middle, nearest first, where it meets the lower edge of the
    picture or would if it went on: what a driver calls the own lane, the next one, and so on. A lane that shows in no
    row takes no slot.

    Args:
        shapes: lanes of one frame, x and y in its pixels.
        rows: y, rising.
        size: (H, W) of the frame.
    """
    found = np.full((SLOTS, len(rows)), np.nan, np.float32)
    lanes = [(at_bottom(points, size[0]) - size[1] / 2, at_rows(points, rows, size[1])) for points in map(known, shapes)
             if len(points) > 1]  # fmt: skip
    lanes = [(offset, lane) for offset, lane in lanes if np.isfinite(lane).any()]
    left = sorted((lane for lane in lanes if lane[0] < 0), key=lambda lane: -lane[0])
    right = sorted((lane for lane in lanes if lane[0] >= 0), key=lambda lane: lane[0])
    for number, (_, lane) in enumerate(left[:SIDE]):
        found[SIDE - 1 - number] = lane
    for number, (_, lane) in enumerate(right[:SIDE]):
        found[SIDE + number] = lane
    return found


def known(shape: Shape) -> np.ndarray:
    """(N, 2) float64 points of a lane that are there, from top to bottom."""
    points = shape.points[np.isfinite(shape.points).all(1)].astype(np.float64)
    return points[np.argsort(points[:, 1], kind="stable")]


def at_rows(points: np.ndarray, rows: np.ndarray, width: float) -> np.ndarray:
    """(R,) float32 x at each of the rows, nan beyond the lane's ends and outside 0..width."""
    x = np.interp(rows, points[:, 1], points[:, 0], left=np.nan, right=np.nan)
    return np.where((x >= 0) & (x < width), x, np.nan).astype(np.float32)


def at_bottom(points: np.ndarray, height: float) -> float:
    """x at which a lane meets the lower edge, by the line through its lowest points."""
    x, y = points[-LOWEST:].T
    spread = ((y - y.mean()) ** 2).sum()
    slope = ((y - y.mean()) * (x - x.mean())).sum() / spread if spread > 0 else 0.0
    return float(x.mean() + slope * (height - y.mean()))


def present(prediction: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Slot and points (N, 2) x, y from top to bottom of each lane that a frame's prediction says is there.

    A lane reaches from the first to the last row with a probability above `THERE`, and half a row beyond, where a lane
    that is in these rows and not in the next ends on average; what lies between is filled. A row far from the parabola
    through the others is taken as if no lane were there: a lane does not jump to its neighbour and back.

    Args:
        prediction: (SLOTS, R, 3) x, y and probability.
    """
    found = []
    for slot, lane in enumerate(prediction):
        rows = np.flatnonzero(lane[:, 2] > THERE)
        rows = rows[~_stray(lane[rows].astype(np.float64))]
        if len(rows) >= FEWEST_ROWS:
            between = np.arange(rows[0], rows[-1] + 1)
            points = np.stack([np.interp(between, rows, lane[rows, 0]), lane[between, 1]], 1)
            ends = [points[:1] + (points[:1] - points[1:2]) / 2, points[-1:] + (points[-1:] - points[-2:-1]) / 2]
            found.append((slot, np.concatenate([ends[0], points, ends[1]]).astype(np.float32)))
    return found


def _stray(rows: np.ndarray) -> np.ndarray:
    """(N,) bool of rows (N, 3) x, y, probability: far from the parabola with the smallest sum of distances to them."""
    if len(rows) < 5:
        return np.zeros(len(rows), bool)
    x, y, sure = rows.T
    step = float(np.diff(y).min())
    down = (y - y.mean()) / np.ptp(y)
    powers, weights = np.stack([np.ones_like(down), down, down**2], 1), sure
    for _ in range(12):  # least squares, each time with the weights that make it the least sum of distances
        weighted = powers * weights[:, None]
        away = np.abs(x - powers @ np.linalg.solve(powers.T @ weighted, weighted.T @ x))
        weights = sure / np.maximum(away, step / 4)
    stray: np.ndarray = away > STRAY * step
    return stray


def jitter(frames: np.ndarray, pts_seconds: np.ndarray, apart: float) -> tuple[float, int]:
    """How fast lanes move sideways: sum of |change of x| per second from frame to frame, and of how many points.

    Only points that are there in both frames count. What the camera's own motion does to the lanes is in it too: hold
    it against the same figure of the labels.

    Args:
        frames: (T, SLOTS, R) x at the same rows, nan where no lane is.
        pts_seconds: (T,) rising.
        apart: seconds between frames beyond which they are not consecutive.
    """
    steps = np.diff(pts_seconds)
    near = steps <= apart
    moves = np.abs(np.diff(frames, axis=0))[near] / steps[near][:, None, None]
    return float(np.nansum(moves)), int(np.isfinite(moves).sum())
