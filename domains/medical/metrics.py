"""Judging masks: Dice, surface distances, lesions found and missed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

TOLERANCE = {"mm": 2.0, "voxel": 1.0}
"""Of the surface Dice, by unit."""


def unit(spacing_mm: Sequence[float] | None) -> str:
    """What distances are measured in: "mm" where the voxel size is known, else "voxel"."""
    return "voxel" if spacing_mm is None else "mm"


def dice(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Dice 1945 of two bool masks (*S), in [0, 1]; 1 where both are empty."""
    total = int(predicted.sum()) + int(reference.sum())
    return 2 * int((predicted & reference).sum()) / total if total else 1.0


def overlap(predicted: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float] | None) -> dict[str, float]:
    """Dice, 95 % Hausdorff distance and surface Dice of one class.

    Both masks empty: dice 1, hd95 0, nsd 1. One empty: dice 0, hd95 nan (there is no distance to nothing), nsd 0.

    Args:
        predicted: (*S) bool, two or three axes.
        reference: (*S) bool.
        spacing_mm: voxel size along S, or None when unknown: distances are then in voxels.

    Returns:
        "dice" and "nsd" in [0, 1], "hd95" in mm or voxels (see `unit`).

    Raises:
        ValueError: the shapes differ.

    Source: Dice 1945; Huttenlocher et al. 1993 (Hausdorff); Nikolov et al. 2018, arXiv:1809.04430 (surface Dice).
    Differs: distances are MONAI's; the larger of the two directed 95 % distances between surface voxels (not surfels),
        and what an empty mask gives is defined here.
    """
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice  # seconds that few commands need

    if predicted.shape != reference.shape:
        raise ValueError(f"prediction has shape {predicted.shape}, reference {reference.shape}")
    if not predicted.any() or not reference.any():
        both_empty = not predicted.any() and not reference.any()
        return {"dice": float(both_empty), "hd95": 0.0 if both_empty else math.nan, "nsd": float(both_empty)}
    # Only the box around both masks matters; one voxel of margin keeps the surface at the box's edge.
    box = ndimage.find_objects((predicted | reference).astype(np.uint8))[0]
    pair = [np.pad(mask[box], 1) for mask in (predicted, reference)]
    y_pred, y = (torch.from_numpy(mask)[None, None].float() for mask in pair)
    spacing = None if spacing_mm is None else [float(s) for s in spacing_mm]
    with warnings.catch_warnings():
        # MONAI 1.6 warns of an argument that only it passes to itself
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy.*", category=FutureWarning)
        distance = compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=spacing)
        surface = compute_surface_dice(
            y_pred, y, class_thresholds=[TOLERANCE[unit(spacing_mm)]], include_background=True, spacing=spacing
        )
    return {"dice": dice(predicted, reference), "hd95": float(distance), "nsd": float(surface)}


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected components (touching at faces, edges or corners: 26 neighbours in 3D): labels 1..n and n."""
    labelled, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return labelled, int(count)


def lesions(predicted: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Lesion-wise counts: a lesion is a connected component of the reference.

    A lesion is found when at least one voxel of it is predicted; a predicted component that touches no lesion is a
    false positive.

    Args:
        predicted: (*S) bool, after clean-up.
        reference: (*S) bool.

    Returns:
        "lesions", "lesion_sensitivity" (found / lesions, nan without lesions), "false_positives".
    """
    lesion_map, num_lesions = components(reference)
    predicted_map, num_predicted = components(predicted)
    found = np.unique(lesion_map[predicted & reference]).size
    hits = np.unique(predicted_map[predicted & reference]).size
    return {
        "lesions": float(num_lesions),
        "lesion_sensitivity": found / num_lesions if num_lesions else math.nan,
        "false_positives": float(num_predicted - hits),
    }
