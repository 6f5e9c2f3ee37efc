"""CULane's lane metric: F1 of lanes drawn 30 pixels wide, matched one to one by what they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import linear_sum_assignment

WIDTH = 1640
"""Of the frames that the metric was made for; lanes are drawn in their pixels."""
THICK = 30
BETWEEN = 50
"""Straight pieces between two points of a lane of three or more."""
THRESHOLDS = tuple(np.arange(50, 100, 5) / 100)
"""IoU that a match must exceed; the first gives F1, all of them its mean."""

Lane = np.ndarray
"""(N, 2) x, y."""


def matches(predicted: Sequence[Lane], truth: Sequence[Lane], size: tuple[int, int]) -> list[int]:
    """How many lanes of one image are found at each of `THRESHOLDS`.

    Lanes are paired so that their intersections over union have the largest sum; a pair counts where it is larger than
    the threshold. What is predicted beyond that is false, what is there beyond that is missed; all three are summed
    over a data set before `f1`.

    Args:
        predicted: lanes, points in order, in pixels of frames 1640 wide.
        truth: the same.
        size: (H, W) of the frame at that width.

    Source: Pan et al. 2018, arXiv 1712.06080, its evaluation code.
    Differs: a point that repeats the one before is left out, which the original divides by zero for.
    """
    if not predicted or not truth:
        return [0] * len(THRESHOLDS)
    shared = overlaps(predicted, truth, size)
    pairs = shared[linear_sum_assignment(shared, maximize=True)]
    return [int((pairs > threshold).sum()) for threshold in THRESHOLDS]


def overlaps(predicted: Sequence[Lane], truth: Sequence[Lane], size: tuple[int, int]) -> np.ndarray:
    """(P, T) intersection over union of the drawn lanes; 0 for a lane of fewer than two points."""
    ours, theirs = ([drawn(lane, size).ravel() for lane in lanes] for lanes in (predicted, truth))
    both = np.array([[np.count_nonzero(a & b) for b in theirs] for a in ours], np.float64)
    areas = [np.array([np.count_nonzero(mask) for mask in masks]) for masks in (ours, theirs)]
    union = areas[0][:, None] + areas[1] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def drawn(lane: Lane, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: a lane's curve, `THICK` wide; nothing for fewer than two points."""
    import cv2

    canvas = np.zeros(size, np.uint8)
    curve = np.rint(curved(lane)).astype(np.int32)
    if len(curve) > 1:
        cv2.polylines(canvas, [curve], isClosed=False, color=1, thickness=THICK)
    return canvas > 0


def curved(lane: Lane) -> np.ndarray:
    """(M, 2) points along a natural cubic spline through a lane's, over the distance between them.

    Two points stay a straight line.
    """
    points = np.asarray(lane, np.float64)
    steps = np.sqrt((np.diff(points, axis=0) ** 2).sum(1))
    points = points[np.concatenate([[True], steps > 0])] if len(points) else points
    if len(points) < 3:
        return points
    steps = steps[steps > 0]
    along = np.concatenate([[0.0], np.cumsum(steps)])
    at = (along[:-1, None] + steps[:, None] * np.arange(BETWEEN) / BETWEEN).ravel()
    return np.asarray(CubicSpline(along, points, bc_type="natural")(np.append(at, along[-1])))


def f1(found: int, predicted: int, there: int) -> float:
    """F1 of so many lanes found, predicted and there; nan where none is predicted and none is there."""
    return 2 * found / (predicted + there) if predicted + there else float("nan")
