"""Average precision of what was found, at several overlaps at once: COCO's rule, shared by every domain."""

from __future__ import annotations

import math

import numpy as np

RECALLS = np.linspace(0, 1, 101)


def average_precision(
    scores: np.ndarray, hits: np.ndarray, objects: int, ignored: np.ndarray | None = None
) -> np.ndarray:
    """(T,) at T overlaps; nan without objects.

    Args:
        scores: (N,) of what was found.
        hits: (T, N), not 0 where it is one of the objects.
        objects: how many there are.
        ignored: (T, N), not 0 where it is neither right nor wrong.

    Source: Lin et al. 2014, arXiv:1405.0312 (COCO: highest precision at 101 recalls and beyond).
    Differs: what has equal scores shares one threshold, so that its order does not matter.
    """
    if objects == 0:
        return np.full(len(hits), math.nan)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)[: len(scores)]
    counted = np.ones(hits.shape, bool) if ignored is None else ignored[:, order] == 0
    found = np.cumsum((hits[:, order] != 0) & counted, axis=1)[:, last]
    precision = found / np.cumsum(counted, axis=1)[:, last].clip(min=1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))  # a recall that is never reached
    each = [row[np.searchsorted(recall, RECALLS)] for row, recall in zip(best, found / objects, strict=True)]
    return np.mean(each, axis=1)
