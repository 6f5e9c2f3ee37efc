"""The header of a NIfTI file, checked before any voxel is read, and bounded reading of what it promises."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np

from domains.errors import Refused
from domains.medical.space import Space

MAX_VOXELS = 2**29
"""Of one file: 512 million, four times a 512 x 512 x 500 CT."""
MAX_OFFSET = 16 * 2**20
"""Bytes of header extensions that are skipped; more is not an image."""
SUFFIXES = (".nii", ".nii.gz")
_KINDS = {
    b"\x5c\x01\x00\x00": nib.Nifti1Header,
    b"\x00\x00\x01\x5c": nib.Nifti1Header,
    b"\x1c\x02\x00\x00": nib.Nifti2Header,
    b"\x00\x00\x02\x1c": nib.Nifti2Header,
}
"""First four bytes -> header: its own length, 348 or 540, in either byte order."""


@dataclass(frozen=True)
class Header(Space):
    """What is known of a file before its voxels are read. Axes as in the file."""

    bytes_expected: int
    """Length of the inflated file."""
    scale: tuple[float | None, float | None]
    """Slope and intercept of the stored values; None where there are none."""
    nifti: Any
    """nibabel's header: private to NIfTI's reader and writer."""


def read_header(path: Path) -> Header:
    """The checked header of a NIfTI file; at most a few kilobytes are read.

    Raises:
        Refused: not NIfTI, absurd dimensions, not one 3D volume, no usable affine.
    """
    with _opened(path) as file:
        head = _take(file, 540)
    kind = _KINDS.get(head[:4])
    if kind is None or len(head) < kind.sizeof_hdr:
        raise Refused("not a NIfTI file: its header does not begin like one")
    try:
        nifti = kind(head[: kind.sizeof_hdr], check=False)
        dims = [int(n) for n in nifti["dim"]]
        dtype = nifti.get_data_dtype()
        offset = int(nifti["vox_offset"])
        scale = nifti.get_slope_inter()
    except (nib.spatialimages.HeaderDataError, ValueError, OverflowError, KeyError) as error:
        raise Refused(f"damaged NIfTI header ({type(error).__name__})") from None
    if bytes(nifti["magic"].tobytes())[:3] not in (b"n+1", b"n+2"):
        raise Refused("not a single NIfTI file: the magic word n+1 or n+2 is missing")
    shape = _volume_shape(dims)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Refused(f"voxels of type {dtype} are not numbers that can be shown")
    if not kind.sizeof_hdr <= offset <= MAX_OFFSET:
        raise Refused(f"image data at byte {offset}, which no NIfTI file has")
    affine, spacing = _checked_affine(nifti)
    in_mm = int(nifti["xyzt_units"]) & 7 == nib.nifti1.unit_codes["mm"]
    known = in_mm and b"nominal" not in bytes(nifti["descrip"].tobytes()).lower()
    return Header(shape, affine, spacing, known, offset + int(np.prod(shape)) * dtype.itemsize, scale, nifti)


def read_content(path: Path, header: Header) -> bytes:
    """The inflated file, exactly as long as its header promises; nothing beyond that is inflated.

    Raises:
        Refused: less data, more data, or damaged data.
    """
    with _opened(path) as file:
        content = _take(file, header.bytes_expected + 1)
    if len(content) < header.bytes_expected:
        raise Refused(f"truncated: {len(content)} bytes of {header.bytes_expected} that the header promises")
    if len(content) > header.bytes_expected:
        raise Refused(f"more data than the {header.bytes_expected} bytes that the header promises")
    return content


def _volume_shape(dims: list[int]) -> tuple[int, int, int]:
    count = dims[0]
    if not 1 <= count <= 7:
        raise Refused(f"{count} dimensions, which no NIfTI file has")
    sizes = dims[1 : count + 1]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) != 3:
        raise Refused(f"{len(sizes)} dimensions ({' x '.join(map(str, sizes))}): not one 3D volume")
    if min(sizes) < 1 or sizes[0] * sizes[1] * sizes[2] > MAX_VOXELS:
        raise Refused(f"absurd dimensions {' x '.join(map(str, sizes))}")
    return sizes[0], sizes[1], sizes[2]


def _checked_affine(nifti: Any) -> tuple[np.ndarray, tuple[float, float, float]]:
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(nifti.get_best_affine(), dtype=np.float64)
    except (nib.spatialimages.HeaderDataError, ValueError, np.linalg.LinAlgError):
        raise Refused("no usable affine: its quaternion or zooms are not valid") from None
    if not np.isfinite(affine).all():
        raise Refused("affine with NaN or infinite values")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise Refused("singular affine")
    return affine, (float(lengths[0]), float(lengths[1]), float(lengths[2]))


def _opened(path: Path) -> IO[bytes]:
    """The file, inflated when its first two bytes are gzip's, whatever its name says."""
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        return gzip.open(path, "rb") if zipped else open(path, "rb")  # type: ignore[return-value]
    except OSError as error:
        raise Refused(f"cannot be opened: {error.strerror}") from None


def _take(file: IO[bytes], limit: int) -> bytes:
    """At most `limit` bytes, never inflating more than that."""
    try:
        return file.read(limit)
    except EOFError:
        raise Refused("truncated gzip data") from None
    except (zlib.error, gzip.BadGzipFile):
        raise Refused("damaged gzip data") from None
