"""TuSimple's lane metric: share of the rows where a lane is right, lanes made up, lanes missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WIDTH = 1280
"""Of the frames that the metric was made for; its threshold is in their pixels."""
NEAR, ENOUGH = 20.0, 0.85
"""Pixels within which a point of an upright lane is right, and the share of such rows at which a lane is found."""
SLOWEST_MS = 200.0
MOST_MORE = 2
"""So many lanes too many, and the image counts as missed."""
COUNTED = 4
ABSENT = -100.0
"""Where a lane is not; so not being there on both sides is right."""


class Figures(NamedTuple):
    """Of one image."""

    accuracy: float
    """Mean over lanes of the share of right rows."""
    false_positives: float
    """Share of the predicted lanes that match none."""
    false_negatives: float
    """Share of the lanes that are matched by none."""


def judge(
    predicted: Sequence[Sequence[float]],
    truth: Sequence[Sequence[float]],
    rows: Sequence[float],
    run_time_ms: float = 0,
) -> Figures:
    """The figures of one image; over a data set they are plain means over its images.

    As in the official code the best prediction of each lane is taken without one-to-one matching, so that the false
    positives can be negative where one prediction matches two lanes; an image with more than two lanes too many, or
    too slow, gives 0, 0, 1; of more than four lanes the worst one is forgiven.

    Args:
        predicted: a list of x for each lane, one a row; a negative one is no point.
        truth: the same.
        rows: y of the rows.
        run_time_ms: that the image took.

    Raises:
        ValueError: a lane has not as many points as there are rows.

    Source: TuSimple 2017, github.com/TuSimple/tusimple-benchmark, evaluate/lane.py as of May 2021.
    Differs: none; x must be scaled to frames 1280 pixels wide by the caller.
    """
    if any(len(lane) != len(rows) for lane in (*predicted, *truth)):
        raise ValueError(f"every lane needs {len(rows)} points, one for each row")
    if run_time_ms > SLOWEST_MS or len(truth) + MOST_MORE < len(predicted):
        return Figures(0.0, 0.0, 1.0)
    y = np.asarray(rows, np.float64)
    found = [_absent_apart(lane) for lane in predicted]
    best = []
    for lane in truth:
        near, points = NEAR / np.cos(_tilt(np.asarray(lane, np.float64), y)), _absent_apart(lane)
        best.append(max((float((np.abs(one - points) < near).mean()) for one in found), default=0.0))
    matched = sum(share >= ENOUGH for share in best)
    missed, total = len(truth) - matched, sum(best)
    if len(truth) > COUNTED:
        missed -= missed > 0
        total -= min(best)
    counted = max(min(COUNTED, len(truth)), 1)
    made_up = (len(predicted) - matched) / len(predicted) if predicted else 0.0
    return Figures(total / counted, made_up, missed / counted)


def f1(false_positives: float, false_negatives: float) -> float:
    """F1 from a data set's mean rates, as CLRNet has it: 1 - FP stands for the lanes that were found.

    Source: Zheng et al. 2022, arXiv 2203.10350, its code.
    Differs: 0 where nothing is found.
    """
    hit = 1 - false_positives
    if hit <= 0:
        return 0.0
    precision, recall = hit / (hit + false_positives), hit / (hit + false_negatives)
    return 2 * precision * recall / (precision + recall)


def _absent_apart(lane: Sequence[float]) -> np.ndarray:
    x = np.asarray(lane, np.float64)
    return np.where(x >= 0, x, ABSENT)


def _tilt(x: np.ndarray, y: np.ndarray) -> float:
    """Angle from upright of the line fitted to a lane's points, in radians; 0 for fewer than two."""
    there = x >= 0
    if there.sum() < 2:
        return 0.0
    centred = y[there] - y[there].mean()
    return float(np.arctan((centred * (x[there] - x[there].mean())).sum() / (centred**2).sum()))
