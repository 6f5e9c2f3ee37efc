"""Judging probabilities against yes and no: ranking (AUROC, average precision) and calibration (ECE)."""

from __future__ import annotations

import numpy as np

BINS = 10


def auroc(probability: np.ndarray, label: np.ndarray) -> float:
    """Chance that a case with the finding is ranked above one without, ties counting half; nan with one class only.

    Args:
        probability: (N,) scores.
        label: (N,) bool.

    Source: Mann, Whitney 1947; Hanley, McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    above, below = probability[label], np.sort(probability[~label])
    if not len(above) or not len(below):
        return float("nan")
    wins = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")  # twice: a tie is half a win
    return float(wins.sum() / (2 * len(above) * len(below)))


def average_precision(probability: np.ndarray, label: np.ndarray) -> float:
    """Mean precision over the cases with the finding, each at its own threshold; equal scores share one threshold.

    nan without a case that has the finding. By chance it is their share.

    Source: Davis, Goadrich 2006, doi:10.1145/1143844.1143874.
    Differs: no interpolation between thresholds.
    """
    if not label.any():
        return float("nan")
    order = np.argsort(-probability, kind="stable")
    found = np.cumsum(label[order])
    last = np.append(np.diff(probability[order]) != 0, True)
    found, called = found[last], np.flatnonzero(last) + 1
    return float((np.diff(found, prepend=0) * found / called).sum() / found[-1])


def reliability(probability: np.ndarray, label: np.ndarray) -> list[tuple[float, float, int]]:
    """(mean probability, share with the finding, cases) of each of ten equal bins of probability that has cases."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    found = []
    for one in np.unique(bins):
        inside = bins == one
        found.append((float(probability[inside].mean()), float(label[inside].mean()), int(inside.sum())))
    return found


def calibration_error(probability: np.ndarray, label: np.ndarray) -> float:
    """Expected calibration error, 0..1: how far bins' mean probability is from the share with the finding.

    Source: Naeini et al. 2015 (AAAI); Guo et al. 2017, arXiv 1706.04599.
    Differs: ten bins of the probability itself, as for findings that are each there or not.
    """
    if not len(label):
        return float("nan")
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    off = np.bincount(bins, probability - label, minlength=BINS)
    return float(np.abs(off).sum() / len(label))
