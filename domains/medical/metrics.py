"""Judging masks: Dice, surface distances, lesions found and missed, FROC."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import (
    compute_froc_curve_data,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy import ndimage

TOLERANCE = {"mm": 2.0, "voxel": 1.0}
"""Of the surface Dice, by unit."""
FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which the sensitivity is read."""
CANDIDATE_THRESHOLD = 0.2
"""Voxels above this probability are joined into candidates for the FROC."""


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


def candidates(probability: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """What the FROC needs of one scan, small enough to keep as JSON.

    A candidate is a connected component of the voxels above 0.2; its score is its highest probability. A candidate
    that touches a lesion finds it (the best such candidate counts), one that touches none is a false positive.

    Args:
        probability: (*S) float32 of any lesion, in [0, 1], after clean-up of specks or raw.
        reference: (*S) bool.

    Returns:
        "lesions" (count), "hit_scores" (score of each lesion found), "false_scores" (score of each false positive).
    """
    lesion_map, num_lesions = components(reference)
    candidate_map, num_candidates = components(probability > CANDIDATE_THRESHOLD)
    if num_candidates == 0:
        return {"lesions": num_lesions, "hit_scores": [], "false_scores": []}
    scores = np.asarray(ndimage.maximum(probability, candidate_map, np.arange(1, num_candidates + 1)))
    touching = (candidate_map > 0) & (lesion_map > 0)
    pairs = np.unique(np.stack([lesion_map[touching], candidate_map[touching]]), axis=1)
    hits: dict[int, float] = {}
    for lesion, candidate in pairs.T.tolist():
        hits[lesion] = max(hits.get(lesion, 0.0), float(scores[candidate - 1]))
    false = np.setdiff1d(np.arange(1, num_candidates + 1), pairs[1])
    return {
        "lesions": num_lesions,
        "hit_scores": [round(score, 4) for score in hits.values()],
        "false_scores": [round(float(scores[f - 1]), 4) for f in false],
    }


def froc(details: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Lesion sensitivity at fixed numbers of false positives per scan, over all scans.

    Args:
        details: of each scan, what `candidates` gave.

    Returns:
        "sensitivity_at_0.125" ... "sensitivity_at_8" and their mean "froc", in [0, 1]; nan without lesions.

    Source: Bandos et al. 2009 (FROC); Setio et al. 2017, arXiv:1612.08012 (the seven rates).
    Differs: MONAI's curve leaves out the lowest score as an operating point; it is kept here. Between operating points
        the curve is interpolated linearly, beyond the last one it stays level.
    """
    num_lesions = sum(int(d["lesions"]) for d in details)
    if num_lesions == 0:
        return {f"sensitivity_at_{rate:g}": math.nan for rate in FROC_RATES} | {"froc": math.nan}
    hits = np.array([score for d in details for score in d["hit_scores"]])
    false = np.array([score for d in details for score in d["false_scores"]])
    # A false positive below every score is the lowest threshold in the real ones' place, and is never reached.
    sentinel = np.append(false, -1.0)
    rates, sensitivity = compute_froc_curve_data(sentinel, hits, num_lesions, len(details))
    at = np.interp(FROC_RATES, rates[::-1], sensitivity[::-1])
    figures = {f"sensitivity_at_{rate:g}": float(value) for rate, value in zip(FROC_RATES, at, strict=True)}
    return figures | {"froc": float(at.mean())}
