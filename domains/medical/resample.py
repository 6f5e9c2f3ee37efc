"""Resampling between grids: of one box in space with other voxels, or of two volumes that only their affines relate."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
import torch
from nibabel.processing import resample_from_to
from scipy import ndimage
from torch.nn import functional


def resampled_shape(
    shape: tuple[int, int, int], spacing_mm: Sequence[float], wanted_mm: Sequence[float | None]
) -> tuple[int, int, int]:
    """Voxels per axis at about the wanted spacing; an axis that wants None, or differs by less than 1 %, stays."""

    def size(axis: int) -> int:
        wanted = wanted_mm[axis]
        if wanted is None or abs(spacing_mm[axis] / wanted - 1) < 0.01:
            return shape[axis]
        return max(1, round(shape[axis] * spacing_mm[axis] / wanted))

    return size(0), size(1), size(2)


def resample_image(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(C, D, H, W) -> (C, *shape) float32, linear, smoothed first along axes that become coarser.

    Both grids cover the same box, edge to edge, so the spacing becomes old spacing * old size / new size.
    """
    if tuple(image.shape[1:]) == tuple(shape):
        return np.asarray(image, dtype=np.float32)
    # half the excess of the step is the usual guard against aliasing; none where the grid gets finer
    sigma = [0.0] + [max(0.0, (old / new - 1) / 2) for old, new in zip(image.shape[1:], shape, strict=True)]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma) if any(sigma) else image.astype(np.float32)
    return _linear(smooth, shape)


def resample_label(label: np.ndarray, shape: Sequence[int], num_classes: int) -> np.ndarray:
    """(D, H, W) integers below `num_classes` -> `shape`, uint8: the class with the largest linear share."""
    if tuple(label.shape) == tuple(shape):
        return label.astype(np.uint8)
    largest = _linear((label == 0)[None].astype(np.float32), shape)[0]
    found = np.zeros(tuple(shape), np.uint8)
    for c in range(1, num_classes):  # one class after the other: in less memory and five times as fast as argmax
        share = _linear((label == c)[None].astype(np.float32), shape)[0]
        found[share > largest] = c
        np.maximum(largest, share, out=largest)
    return found


def resample_probabilities(probabilities: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(K, D, H, W) -> (K, *shape) float32, linear and without smoothing, so that the sum over K stays one."""
    if tuple(probabilities.shape[1:]) == tuple(shape):
        return np.asarray(probabilities, dtype=np.float32)
    return _linear(probabilities.astype(np.float32), shape)


def onto_grid(
    image: np.ndarray, affine: np.ndarray, shape: Sequence[int], onto: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A volume on another grid, by the two affines alone: nothing is registered.

    Linear, smoothed first along the axes that become coarser.

    Args:
        image: (D, H, W) numbers.
        affine: 4x4, its voxel index -> mm.
        shape: (D, H, W) of the other grid.
        onto: 4x4, voxel index of the other grid -> mm of the same space.

    Returns:
        (*shape) float32, edges repeated outside of the image's box, and (*shape) bool, where that box reaches.
    """
    steps = np.abs(np.linalg.inv(affine) @ onto)[:3, :3].max(1)
    sigma = [max(0.0, (step - 1) / 2) for step in steps]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma) if any(sigma) else image.astype(np.float32)
    grid = (tuple(shape), onto)
    found = resample_from_to(nib.Nifti1Image(smooth, affine), grid, order=1, mode="nearest")
    # interpolation between ones and the zeros outside passes a half at the outer face of the last voxel
    ones = nib.Nifti1Image(np.ones(image.shape, np.float32), affine)
    reached = resample_from_to(ones, grid, order=1, mode="grid-constant")
    return np.asarray(found.dataobj, dtype=np.float32), np.asarray(reached.dataobj) >= 0.5


def _linear(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(array))[None]
    return functional.interpolate(tensor, tuple(shape), mode="trilinear", align_corners=False)[0].numpy()
