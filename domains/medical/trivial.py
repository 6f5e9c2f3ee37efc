"""Competitors that have learned nothing: what a few lines reach belongs in every table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from domains.head import Prediction
from domains.manifest import Contract
from domains.medical.entries import Entry, open_entry
from domains.medical.metrics import components

# Chosen among 36 settings by the mean Dice on the 55 development patients of brain_mri_lgg (0.445); the 21 held-out
# patients had no say. So this competitor has seen 55 labels.
SMOOTHING_MM = 4.0
SKULL_MM = 22.0
"""Scalp, skull and the bright rim of the brain, from the head's outline inwards, measured within slices."""
DEVIATIONS = 1.5
"""Above the median, in robust standard deviations (1.4826 times the median absolute deviation)."""

ELLIPSOID_SHARE = (0.22, 0.30, 0.16)
"""Semi-axes (S, A, R) of the ellipsoid as shares of the crop; from the organ's known size, not from labels."""


def bright_blob(folder: Path, contract: Contract) -> Prediction:
    """The largest blob of smoothed FLAIR above the median by 1.5 deviations, away from the skull.

    Returns:
        (K, D, H, W) float32 on the native grid, zeros and ones before resampling; of several classes it is the first.
    """
    entry = open_entry(folder)
    spacing = np.array(entry.spacing_mm)
    smooth = ndimage.gaussian_filter(entry.read()[0], SMOOTHING_MM / spacing)
    inside = depth_mm(entry.read_foreground(), spacing) > SKULL_MM
    mask = np.zeros(inside.shape, dtype=bool)
    if inside.any():
        values = smooth[inside]
        median = np.median(values)
        deviation = 1.4826 * np.median(np.abs(values - median))
        labelled, count = components(inside & (smooth > median + DEVIATIONS * deviation))
        if count:
            mask = labelled == 1 + np.bincount(labelled.ravel())[1:].argmax()
    return as_first_class(mask, entry, contract)


def as_first_class(mask: np.ndarray, entry: Entry, contract: Contract) -> Prediction:
    """A bool mask (*stored shape) as a prediction (K, *native shape) of the first class; the others are nowhere.

    A rule that finds something does not know which of several classes it is.
    """
    others = [np.zeros_like(mask)] * (contract.num_classes - 2)
    return entry.to_native(np.stack([~mask, mask, *others]).astype(np.float32))


def halved_ellipsoid(folder: Path, contract: Contract) -> Prediction:
    """An ellipsoid in the middle of the volume, its anterior half class 1, its posterior half class 2.

    Returns:
        (3, D, H, W) float32 on the native grid.
    """
    shape = open_entry(folder).native_shape
    # voxel centres as shares of the volume, from its middle; H grows from posterior to anterior
    d, h, w = np.meshgrid(*[(np.arange(n) + 0.5) / n - 0.5 for n in shape], indexing="ij")
    inside = sum((x / share) ** 2 for x, share in zip((d, h, w), ELLIPSOID_SHARE, strict=True)) < 1
    return np.stack([~inside, inside & (h > 0), inside & (h <= 0)]).astype(np.float32)


def depth_mm(head: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """(D, H, W) in-plane distance from the outline of the head, its holes filled; the picture's edge is outline too."""
    filled = [np.pad(ndimage.binary_fill_holes(section), 1) for section in head]
    depth = [ndimage.distance_transform_edt(section, sampling=spacing_mm[1:])[1:-1, 1:-1] for section in filled]
    return np.stack(depth)
