"""Small NIfTI volumes for tests."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np


def write_nifti(file: Path, seed: int, shape: tuple[int, int, int] = (48, 48, 12)) -> Path:
    """A small head-like volume: a noisy ball in dark air."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    ball = sum(a**2 for a in axes) < 0.8
    data = (ball * rng.normal(400, 40, shape) + rng.gamma(2, 5, shape)).astype(np.int16)
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(data, np.diag([2.0, 2.0, 5.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, file)
    return file
