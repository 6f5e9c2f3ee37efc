"""From an archive's fingerprint to the preprocessing contract: 2D or 3D, spacing, crop, strides and patches.

Source: Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z (fingerprint -> plan, pooling rule).
Differs: slices with neighbours already above a spacing ratio of 2 (nnU-Net keeps 3D with flat kernels), and no
through-plane resampling there, since interpolated slices of 4-7 mm show anatomy that nobody measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from domains.domain import Candidate
from domains.manifest import Contract
from domains.medical.preprocess import INTENSITY
from domains.medical.quality import check_header
from domains.medical.sources import space_of
from domains.recipe import Recipe

VERSION = 1
"""Of what `preprocess.py` writes; bumped by hand when it changes."""
RATIO_2D = 2.0
RATIO_ANISOTROPIC = 1.5
SMALLEST = 4
"""Voxels that a pooled axis keeps at least."""
MOST_STAGES = 6


def inspect(candidate: Candidate) -> dict[str, Any]:
    """Shape and spacing (D, H, W) of a candidate's first channel, from its header.

    Raises:
        Refused: the header cannot be used.
    """
    space = space_of(candidate, next(iter(candidate.images)).partition("/")[0])
    check_header(space)
    shape, spacing = space.canonical_grid
    return {"shape": list(shape), "spacing_mm": list(spacing), "axes": space.axis_letters}


def plan(inspections: Sequence[dict[str, Any]], recipe: Recipe) -> Contract:
    """The contract for an archive: medians of spacing and shape decide."""
    data: Any = recipe.data
    shape = np.median([facts["shape"] for facts in inspections], axis=0)
    spacing = np.median([facts["spacing_mm"] for facts in inspections], axis=0)
    ratio = spacing[0] / spacing[1:].max()
    kind = data.plan
    if kind == "auto":
        kind = "2d" if ratio > RATIO_2D else "anisotropic" if ratio > RATIO_ANISOTROPIC else "3d"
    flat = kind == "2d"
    wanted = [None if flat else _rounded(spacing[0]), _rounded(spacing[1]), _rounded(spacing[2])]
    axes = slice(1, None) if flat else slice(None)
    longest = data.max_crop if flat else data.max_crop // 2
    pooling, crop = pooling_and_crop(shape[axes], spacing[axes], longest)
    rules = {
        "orientation": "RAS",
        "axes": Counter(facts["axes"] for facts in inspections).most_common(1)[0][0],
        "spacing_mm": wanted,
        "channels": list(data.channels),
        "kind": kind,
        "neighbours": data.neighbours if flat else 0,
        "intensity": INTENSITY,
    }
    return Contract(
        domain="medical",
        version=VERSION,
        in_channels=len(data.channels) * (2 * rules["neighbours"] + 1),
        num_classes=1 + len(data.label_classes),
        crop_shape=crop,
        pooling=pooling,
        patch_shape=_patch(crop, spacing[axes]),
        rules=rules,
    )


def pooling_and_crop(
    shape: np.ndarray, spacing: np.ndarray, longest: int
) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Strides per stage (the first all ones) and the crop, a multiple of their product.

    An axis is halved while it keeps `SMALLEST` voxels and its spacing is within twice the finest one.
    """
    size, step = np.minimum(shape, longest).astype(float), spacing.astype(float)
    pooling = [(1,) * len(size)]
    while len(pooling) < MOST_STAGES:
        halve = (size / 2 >= SMALLEST) & (step < 2 * step[size / 2 >= SMALLEST].min(initial=np.inf))
        if not halve.any():
            break
        pooling.append(tuple(2 if h else 1 for h in halve))
        size, step = np.where(halve, size / 2, size), np.where(halve, step * 2, step)
    coarsest = np.prod(pooling, axis=0)
    crop = np.minimum(np.round(shape / coarsest), longest // coarsest).clip(1) * coarsest
    return tuple(pooling), tuple(int(c) for c in crop)


def _patch(crop: Sequence[int], spacing: np.ndarray) -> tuple[int, ...]:
    """8 voxels per axis, halved while an axis is coarser than that times the finest, always dividing the crop."""
    patch = []
    for size, ratio in zip(crop, spacing / spacing.min(), strict=True):
        edge = 8
        while edge > 1 and (size % edge or edge * ratio >= 16):
            edge //= 2
        patch.append(edge)
    return tuple(patch)


def _rounded(spacing: float) -> float:
    return round(float(spacing), 4)
