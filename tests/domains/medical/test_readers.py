"""Canonical axes against nibabel, the way back to the source's grid, and digests."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from domains.errors import Refused
from domains.medical.header import read_header
from domains.medical.readers import read_volume, write_mask


def oriented(array_ras, codes, spacing_ras):
    """The same content (R, A, S) as a NIfTI image in another axis order."""
    image = nib.Nifti1Image(array_ras, np.diag([*spacing_ras, 1.0]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes))
    image = image.as_reoriented(turn)
    image.header.set_xyzt_units("mm")
    return image


CODES = ["RAS", "LPS", "PSR", "SAL", "IPR", "ALS"]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 4.0), (4.0, 1.0, 1.0), (1.0, 4.0, 1.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("codes", CODES)
def test_read_volume__same_content_in_any_axis_order(tmp_path, codes, spacing):
    array = np.random.default_rng(0).integers(0, 900, (18, 20, 22)).astype(np.int16)
    paths = tmp_path / "a.nii.gz", tmp_path / "b.nii"
    nib.save(oriented(array, "RAS", spacing), paths[0])
    nib.save(oriented(array.astype(np.float32), codes, spacing), paths[1])
    first, second = (read_volume(path) for path in paths)
    assert first.digest == second.digest
    assert np.array_equal(first.data, second.data)
    assert first.spacing_mm == second.spacing_mm and first.spacing_mm[0] == max(spacing)
    expected = {(1.0, 1.0, 4.0): (2, 1, 0), (1.0, 1.0, 1.0): (2, 1, 0), (4.0, 1.0, 1.0): (0, 2, 1)}
    assert np.array_equal(first.data[0], array.transpose(expected.get(spacing, (1, 2, 0))))


def test_read_volume__voxels_keep_their_place(tmp_path):
    array = np.arange(18 * 20 * 22, dtype=np.int32).reshape(18, 20, 22)
    image = oriented(array, "PSR", (1.1, 0.9, 3.0))
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    for index in itertools.product((0, 5), (1, 7), (2, 9)):
        place = volume.affine @ [*index, 1]
        source = np.round(np.linalg.inv(image.affine) @ place).astype(int)[:3]
        assert volume.data[0][index] == np.asarray(image.dataobj)[tuple(source)]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 4.0), (4.0, 1.0, 1.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("codes", CODES)
def test_write_mask__source_geometry(tmp_path, codes, spacing):
    mask = np.random.default_rng(0).integers(0, 3, (18, 20, 22)).astype(np.uint8)
    source = oriented(mask, codes, spacing)
    source.header["descrip"] = b"JOHN DOE"
    source.set_qform(source.affine, 1)
    nib.save(source, tmp_path / "in.nii.gz")
    canonical = read_volume(tmp_path / "in.nii.gz", integers=True).data[0]
    write_mask(tmp_path / "out.nii.gz", canonical, read_header(tmp_path / "in.nii.gz"))
    back = nib.load(tmp_path / "out.nii.gz")
    assert back.shape == source.shape and np.array_equal(back.affine, nib.load(tmp_path / "in.nii.gz").affine)
    assert np.array_equal(np.asarray(back.dataobj), np.asarray(source.dataobj))
    assert not back.header["descrip"].tobytes().strip(b"\0")


def test_read_volume__scaled_integers(tmp_path):
    image = nib.Nifti1Image(np.linspace(-1, 7, 8000).reshape(20, 20, 20), np.eye(4))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii.gz")
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata().transpose(2, 1, 0)
    assert np.allclose(read_volume(tmp_path / "a.nii.gz").data[0], expected, atol=1e-6)


def test_read_volume__digest_tells_content_and_geometry_apart(make_nifti):
    array = np.arange(20 * 20 * 20, dtype=np.int16).reshape(20, 20, 20)
    other = array.copy()
    other[3, 4, 5] += 1
    digests = [
        read_volume(make_nifti(array, "a.nii.gz")).digest,
        read_volume(make_nifti(other, "b.nii.gz")).digest,
        read_volume(make_nifti(array, "c.nii.gz", affine=np.diag([1, 1, 1.1, 1]))).digest,
    ]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("value", [0.5, -1, 300, np.nan])
def test_read_volume__not_a_label(make_nifti, value):
    array = np.zeros((20, 20, 20), np.float32)
    array[4, 4, 4] = value
    with pytest.raises(Refused, match="label with"):
        read_volume(make_nifti(array), integers=True)


def test_volume__repr_prints_shapes(make_nifti):
    volume = read_volume(make_nifti(np.zeros((20, 20, 20), np.int16), units="unknown"))
    assert repr(volume) == "Volume(float32 (1, 20, 20, 20), spacing_mm=(1.0, 1.0, 1.0) (nominal))"


@pytest.mark.real_data
def test_read_volume__ixi_against_nibabel(real_medical):
    path = min((real_medical / "brain_mri_ixi" / "nifti").glob("*.nii.gz"))
    image = nib.load(path)
    assert nib.aff2axcodes(image.affine) == ("P", "S", "R")
    canonical = nib.as_closest_canonical(image)
    volume = read_volume(path)
    assert np.allclose(volume.data[0], canonical.get_fdata().transpose(2, 1, 0), rtol=1e-6)
    assert np.allclose(volume.affine[:, [2, 1, 0, 3]], canonical.affine, atol=1e-4)
    assert volume.spacing_mm == pytest.approx((2, 2, 2), abs=1e-4)
