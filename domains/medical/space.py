"""Where the voxels of a source lie, and the way to the canonical axes and back.

Axis order everywhere behind this file: (C, D, H, W). A volume is turned to RAS (each axis to the nearest anatomical
one, no interpolation) and its axes are listed from superior to right: (S, A, R). Then the through-plane axis goes to
the front: the coarsest axis when it is more than 1.5 times coarser than S (a sagittal or coronal stack), else S. So D
is where slices lie apart, and near-isotropic volumes are all laid out alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

COARSER = 1.5
SAME_GRID = 0.5
"""Voxels of the smallest side that two grids may lie apart and still be one."""


@dataclass(frozen=True)
class Space:
    """The grid of a source, axes in its own order."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    """4x4, voxel index -> RAS mm."""
    spacing_mm: tuple[float, float, float]
    spacing_known: bool

    @property
    def axes(self) -> tuple[int, int, int]:
        """Which RAS axis (0 R, 1 A, 2 S) becomes D, H, W."""
        spacing = self.canonical_spacing_mm
        coarsest = int(np.argmax(spacing))
        through = coarsest if spacing[coarsest] > COARSER * spacing[2] else 2
        rest = [axis for axis in (2, 1, 0) if axis != through]
        return through, rest[0], rest[1]

    @property
    def axis_letters(self) -> str:
        """D, H, W as letters of R, A, S, e.g. "SAR" for axial slices."""
        return "".join("RAS"[axis] for axis in self.axes)

    @property
    def canonical_spacing_mm(self) -> tuple[float, float, float]:
        """Along R, A, S."""
        found = [0.0, 0.0, 0.0]
        for file_axis, (axis, _) in enumerate(io_orientation(self.affine)):
            found[int(axis)] = self.spacing_mm[file_axis]
        return found[0], found[1], found[2]

    @property
    def canonical_grid(self) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """Shape and spacing in mm along D, H, W."""
        sizes = dict(zip((int(axis) for axis, _ in io_orientation(self.affine)), self.shape, strict=True))
        spacing = self.canonical_spacing_mm
        d, h, w = self.axes
        return (sizes[d], sizes[h], sizes[w]), (spacing[d], spacing[h], spacing[w])

    @property
    def canonical_affine(self) -> np.ndarray:
        """4x4, (D, H, W) voxel index -> RAS mm."""
        ras = self.affine @ inv_ornt_aff(io_orientation(self.affine), self.shape)
        return np.asarray(ras[:, [*self.axes, 3]], dtype=np.float64)

    def to_canonical(self, values: np.ndarray) -> np.ndarray:
        """Source order -> (D, H, W)."""
        turned: np.ndarray = apply_orientation(values, io_orientation(self.affine)).transpose(self.axes)
        return turned

    def from_canonical(self, values: np.ndarray) -> np.ndarray:
        """(D, H, W) -> source order."""
        ras = values.transpose(np.argsort(self.axes))
        back = ornt_transform(axcodes2ornt("RAS"), io_orientation(self.affine))
        return np.ascontiguousarray(apply_orientation(ras, back))


def corner_gap_mm(shape: Sequence[int], affine: np.ndarray, other: np.ndarray) -> float:
    """How far the corners of a grid lie apart under two affines, at most; in mm along an axis of the patient."""
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*((0, n) for n in shape))])
    return float(np.abs(corners @ (affine - other).T).max())


def described(shape: Sequence[int], affine: np.ndarray) -> str:
    """A grid in words: voxels, and the three rows of its affine (RAS, mm)."""
    rows = ["(" + " ".join(f"{0.0 if abs(v) < 5e-4 else v:.4g}" for v in row) + ")" for row in affine[:3]]
    return f"{' x '.join(map(str, shape))} voxels with affine {' '.join(rows)}"
