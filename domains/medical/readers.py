"""NIfTI files in and out: canonical volumes, and the way back to the source's own grid (axis order: `space.py`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from domains.errors import Refused
from domains.medical.header import Header, read_content, read_header
from domains.medical.space import Space


@dataclass(frozen=True)
class Volume:
    """A decoded volume with its place in space; its repr prints shapes."""

    data: np.ndarray
    """(C, D, H, W) float32 images or integer labels."""
    affine: np.ndarray
    """4x4, (D, H, W) voxel index -> RAS mm."""
    spacing_mm: tuple[float, float, float]
    """Along D, H, W."""
    spacing_known: bool
    digest: str
    """sha256 of values, shape and affine on the canonical grid: equal for the same content in any container, data
    type or axis order of the file."""

    def __repr__(self) -> str:
        known = "" if self.spacing_known else " (nominal)"
        return f"Volume({self.data.dtype} {self.data.shape}, spacing_mm={self.spacing_mm}{known})"


def read_volume(path: Path, *, integers: bool = False, nominal: bool = False) -> Volume:
    """One decoded channel (1, D, H, W), canonical. Descriptions and extensions of the file are not kept.

    Args:
        path: a .nii or .nii.gz file.
        integers: labels: values must be whole and in 0..255; they stay integers.
        nominal: the source says its spacing is not real.

    Raises:
        Refused: whatever `read_header` refuses, truncated or oversized data, values that are no labels.
    """
    header = read_header(path)
    content = read_content(path, header)
    nifti = header.nifti
    voxels = np.frombuffer(content, nifti.get_data_dtype(), offset=int(nifti["vox_offset"]))
    voxels = voxels.reshape(header.shape, order="F")
    slope, inter = header.scale
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows becomes infinite and is refused as such
        values = (voxels if slope is None or inter is None else voxels * slope + inter).astype(np.float32)
    return volume_of(values, header, integers=integers, nominal=nominal)


def volume_of(values: np.ndarray, space: Space, *, integers: bool = False, nominal: bool = False) -> Volume:
    """Values in a source's own axis order as a canonical volume.

    Raises:
        Refused: `integers`, and they are no labels.
    """
    data = space.to_canonical(values)
    if integers:
        data = _as_label(data)
    affine = space.canonical_affine
    return Volume(
        data=np.ascontiguousarray(data)[None],
        affine=affine,
        spacing_mm=space.canonical_grid[1],
        spacing_known=space.spacing_known and not nominal,
        digest=_digest(data, affine),
    )


def write_mask(path: Path, mask: np.ndarray, space: Space) -> None:
    """Writes a canonical (D, H, W) mask as uint8 NIfTI with the very shape and affine of its source.

    The result carries the source's identity in its geometry only: no description, no extension.
    """
    image = nib.Nifti1Image(space.from_canonical(mask.astype(np.uint8)), space.affine)
    image.header.set_xyzt_units("mm")
    if isinstance(space, Header):
        nifti = space.nifti
        for code in ("sform_code", "qform_code"):
            image.header[code] = nifti[code]
        if int(nifti["qform_code"]) > 0:
            image.set_qform(nifti.get_qform(), int(nifti["qform_code"]))
        if int(nifti["sform_code"]) > 0:
            image.set_sform(space.affine, int(nifti["sform_code"]))
    else:
        image.set_qform(space.affine, 1)
        image.set_sform(space.affine, 1)
    nib.save(image, path)


def _as_label(data: np.ndarray) -> np.ndarray:
    if not np.isfinite(data).all():
        raise Refused("label with NaN or infinite values")
    if data.min() < 0 or data.max() > 255 or (data != np.round(data)).any():
        raise Refused("label with values other than whole numbers 0..255")
    return data.astype(np.uint8)


def _digest(data: np.ndarray, affine: np.ndarray) -> str:
    # the affine to a micrometre: rounding in headers (float32, quaternions) must not hide a duplicate
    rounded = np.round(affine, 3) + 0.0
    digest = hashlib.sha256(repr((data.shape, rounded.tolist())).encode())
    digest.update(np.ascontiguousarray(data, dtype="<f4").data)
    return digest.hexdigest()
