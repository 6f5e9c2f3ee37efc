"""How sure a mask is: entropy voxel by voxel, and one figure a case."""

from __future__ import annotations

import numpy as np

from domains.head import Prediction


def entropy(prediction: Prediction) -> np.ndarray:
    """(*S) float32 in [0, 1]: the entropy of (K, *S) probabilities as a share of that of K equal ones."""
    safe = np.clip(prediction, 1e-7, 1.0)
    found: np.ndarray = -(safe * np.log(safe)).sum(0) / np.log(len(prediction))
    return found.clip(0, 1).astype(np.float32)


def case_uncertainty(prediction: Prediction, mask: np.ndarray) -> float:
    """In [0, 1]: mean entropy inside the mask (*S) that is written; of an empty one the highest entropy anywhere."""
    found, inside = entropy(prediction), mask > 0
    return float(found[inside].mean() if inside.any() else found.max())
