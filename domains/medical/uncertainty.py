"""How sure a mask is: entropy voxel by voxel, and one figure a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from domains.head import Prediction

SMALLEST = 6
"""Cases that such a figure needs at least."""


def entropy(prediction: Prediction) -> np.ndarray:
    """(*S) float32 in [0, 1]: the entropy of (K, *S) probabilities as a share of that of K equal ones."""
    safe = np.clip(prediction, 1e-7, 1.0)
    found: np.ndarray = -(safe * np.log(safe)).sum(0) / np.log(len(prediction))
    return found.clip(0, 1).astype(np.float32)


def case_uncertainty(prediction: Prediction, mask: np.ndarray) -> float:
    """In [0, 1]: mean entropy inside the mask (*S) that is written; of an empty one the highest entropy anywhere."""
    found, inside = entropy(prediction), mask > 0
    return float(found[inside].mean() if inside.any() else found.max())


def how_telling(details: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Whether cases with much uncertainty are those with a bad mask: what a reader who looks at a third would miss.

    Args:
        details: "dice" and "uncertainty" of each case.

    Returns:
        "uncertainty_dice_rank_correlation" (Spearman 1904; -1: it tells all) and the mean Dice of the third of the
        cases that is most certain, of the next, and of the least certain; None where there are under six cases or all
        are equally certain.
    """
    dice, unsure = (np.array([d[key] for d in details], dtype=float) for key in ("dice", "uncertainty"))
    names = [f"dice_{which}_certain_third" for which in ("most", "middle", "least")]
    if len(dice) < SMALLEST or np.ptp(unsure) == 0 or np.ptp(dice) == 0:
        return dict.fromkeys(["uncertainty_dice_rank_correlation", *names])
    correlation = float(np.corrcoef(rankdata(unsure), rankdata(dice))[0, 1])
    thirds = np.array_split(dice[np.argsort(unsure, kind="stable")], 3)
    means = [float(third.mean()) for third in thirds]
    return {"uncertainty_dice_rank_correlation": correlation, **dict(zip(names, means, strict=True))}
