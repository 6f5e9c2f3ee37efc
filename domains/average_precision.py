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
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(scores)])
    ends = last[np.searchsorted(last, np.arange(len(scores)))]
    hits = hits[:, order] != 0
    neither = np.zeros_like(hits) if ignored is None else ignored[:, order] != 0
    return np.array([_of_one(*one, ends, objects) for one in zip(hits & ~neither, neither, strict=True)])


def _of_one(hits: np.ndarray, ignored: np.ndarray, ends: np.ndarray, objects: int) -> float:
    """At one overlap, of (N,) hits by falling score; precision can only be highest where something is hit.

    Args:
        hits: (N,) bool.
        ignored: (N,) bool.
        ends: (N,) the last place with the score of each.
        objects: how many there are.
    """
    places = np.flatnonzero(hits)
    at = ends[places]
    found = np.searchsorted(places, at, side="right")
    looked_at = at + 1 - (np.cumsum(ignored)[at] if ignored.any() else 0)
    best = np.maximum.accumulate((found / looked_at)[::-1])[::-1]
    reached = np.append(best, 0.0)  # a recall that is never reached
    return float(reached[np.searchsorted(found / objects, RECALLS)].mean())
