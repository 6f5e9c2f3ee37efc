"""Broken headers and bodies: each is refused with its reason, and nothing is inflated beyond the promise."""

import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from domains.errors import Refused
from domains.medical.header import read_content, read_header
from domains.medical.quality import check_header


def patched(path, **fields):
    """Rewrites header fields of a .nii.gz in place."""
    content = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header(content[:348], check=False)
    for key, value in fields.items():
        header[key] = value
    path.write_bytes(gzip.compress(header.binaryblock + content[348:]))
    return path


def refusal(path):
    with pytest.raises(Refused) as caught:
        header = read_header(path)
        check_header(header)
        read_content(path, header)
    assert path.name not in caught.value.reason and str(path.parent) not in caught.value.reason
    return caught.value.reason


@pytest.fixture
def good(make_nifti):
    return make_nifti(np.ones((20, 21, 22), np.int16))


def test_read_header__good(good):
    header = read_header(good)
    assert header.shape == (20, 21, 22) and header.spacing_known
    assert len(read_content(good, header)) == 352 + 20 * 21 * 22 * 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "absurd dimensions"),
        ({"dim": [3, 20, -5, 22, 1, 1, 1, 1]}, "absurd dimensions"),
        ({"dim": [4, 20, 21, 11, 2, 1, 1, 1]}, "not one 3D volume"),
        ({"dim": [2, 20, 21, 1, 1, 1, 1, 1]}, "not one 3D volume"),
        ({"dim": [9, 20, 21, 22, 1, 1, 1, 1]}, "NIfTI"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "NaN or infinite"),
        ({"srow_x": [0, 0, 0, 0]}, "singular affine"),
        ({"srow_x": [500, 0, 0, 0]}, "absurd spacing"),
        ({"srow_x": [0.001, 0, 0, 0]}, "absurd spacing"),
        ({"datatype": 128, "bitpix": 24}, "not numbers"),
        ({"datatype": 9999}, "damaged NIfTI header"),
        ({"vox_offset": 3e9}, "image data at byte"),
        ({"magic": b"ni1"}, "magic word"),
        ({"dim": [3, 40, 21, 22, 1, 1, 1, 1]}, "truncated"),
        ({"dim": [3, 20, 21, 20, 1, 1, 1, 1]}, "more data"),
        ({"dim": [3, 3, 21, 22, 1, 1, 1, 1]}, "too small"),
    ],
)
def test_read_header__broken_field(good, fields, reason):
    assert reason in refusal(patched(good, **fields))


def test_read_header__last_dimension_of_one_is_dropped(make_nifti):
    assert read_header(make_nifti(np.ones((20, 21, 22, 1), np.int16))).shape == (20, 21, 22)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a NIfTI"), (b"hello" * 200, "not a NIfTI"), (gzip.compress(b"x" * 900, mtime=0), "not a NIfTI"),
     (b"\x1f\x8b\x08\x00garbage-garbage-garbage", "gzip data")],
)  # fmt: skip
def test_read_header__not_nifti(tmp_path, content, reason):
    path = tmp_path / "patient_x.nii.gz"
    path.write_bytes(content)
    assert reason in refusal(path)


def test_read_content__truncated_gzip(make_nifti):
    path = make_nifti(np.random.default_rng(0).integers(0, 999, (20, 21, 22)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:-2000])
    assert "truncated gzip" in refusal(path)


def test_read_content__flipped_bits(make_nifti):
    path = make_nifti(np.random.default_rng(0).integers(0, 999, (20, 21, 22)).astype(np.int16))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    assert "gzip" in refusal(path)


def test_read_content__gzip_bomb_is_bounded(good):
    content = gzip.decompress(good.read_bytes())
    with gzip.open(good, "wb", compresslevel=1) as file:
        file.write(content)
        for _ in range(100):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        assert "more data" in refusal(good)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("units", "descrip", "known"),
    [("mm", b"", True), ("unknown", b"", False), ("mm", b"Nominal spacing; original lost", False)],
)
def test_read_header__spacing_known(make_nifti, units, descrip, known):
    path = make_nifti(np.ones((20, 21, 22), np.int16), units=units, descrip=descrip)
    assert read_header(path).spacing_known is known


@pytest.mark.parametrize(
    ("spacing_sar", "axes"),
    [((5, 1, 1), (2, 1, 0)), ((1, 1, 1), (2, 1, 0)), ((1, 1, 1.4), (2, 1, 0)), ((1, 1, 5), (0, 2, 1)),
     ((1, 5, 1), (1, 2, 0))],
)  # fmt: skip
def test_axes__through_plane_first(make_nifti, spacing_sar, axes):
    s, a, r = spacing_sar
    header = read_header(make_nifti(np.ones((20, 21, 22), np.int16), affine=np.diag([r, a, s, 1.0])))
    assert header.axes == axes
    assert header.canonical_grid[1] == pytest.approx([(r, a, s)[axis] for axis in axes])
