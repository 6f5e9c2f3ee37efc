"""Slices in their place, and their pixels: against the standard's formula, slice by slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import DIRECTIONS, SPACING, STEP, blob, instance, position, write_enhanced, write_series
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from domains.errors import Refused
from domains.medical.dicom.volume import read_space, read_values


def test_read_values__every_voxel_lies_where_the_standard_says(tmp_path: Path) -> None:
    """PS3.3 C.7.6.2.1.1: position of pixel (column i, row j) of slice k, then left and posterior change sign."""
    volume = blob()
    paths = write_series(tmp_path, volume)
    space, values = read_values(sorted(paths))
    assert space.shape == (20, 24, 8) and space.spacing_known
    assert space.spacing_mm == pytest.approx((SPACING[1], SPACING[0], STEP), abs=1e-4)
    for k, j, i in np.random.default_rng(0).integers(0, volume.shape, (40, 3)):
        place = position(k) + DIRECTIONS[0] * SPACING[1] * i + DIRECTIONS[1] * SPACING[0] * j
        assert space.affine @ [i, j, k, 1] == pytest.approx([-place[0], -place[1], place[2], 1], abs=1e-4)
        assert values[i, j, k] == volume[k, j, i]


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_read_values__compressed_is_the_same(tmp_path: Path, syntax: str) -> None:
    volume = blob(4, 64, 48)
    for path in write_series(tmp_path, volume):
        made = pydicom.dcmread(path)
        made.compress(syntax, generate_instance_uid=False)
        made.save_as(path)
    assert np.array_equal(read_values(sorted(tmp_path.iterdir()))[1], volume.transpose(2, 1, 0))


def test_read_values__frames_of_one_file_are_slices(tmp_path: Path) -> None:
    volume = blob()
    write_enhanced(tmp_path / "e.dcm", volume)
    write_series(tmp_path / "classic", volume)
    space, values = read_values([tmp_path / "e.dcm"])
    assert np.array_equal(values, 2.0 * volume.transpose(2, 1, 0) + np.arange(len(volume)))
    classic = read_space(sorted((tmp_path / "classic").iterdir()))
    np.testing.assert_allclose(space.affine, classic.affine, atol=1e-5)


def test_read_values__scale_sign_and_overlay(tmp_path: Path) -> None:
    signed = (blob().astype(np.int16) - 1000) & 0x0FFF  # 12 bits, two's complement
    drawn = signed | np.where(np.arange(20) < 5, 0x1000, 0).astype(np.int16)  # a drawing in the thirteenth bit
    write_series(tmp_path, drawn, PixelRepresentation=1, RescaleSlope=0.5, RescaleIntercept=-3)
    values = read_values(sorted(tmp_path.iterdir()))[1]
    expected = (blob().astype(np.int16) - 1000).astype(np.int32)
    expected = (expected + 2048) % 4096 - 2048
    assert np.array_equal(values, (0.5 * expected - 3).transpose(2, 1, 0).astype(np.float32))


def refusal(paths: list[Path]) -> str:
    with pytest.raises(Refused) as refused:
        read_values(paths)
    return refused.value.reason


def test_read_values__a_missing_slice_is_noticed(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    assert "slices missing: 1 of 6 distances" in refusal(paths[:3] + paths[4:])


def test_read_values__a_slice_beside_its_place(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    instance(blob()[3], 9, position(3.2)).save_as(paths[3])
    assert refusal(paths) == "slices unevenly spaced: one lies 1.00 mm beside its place"


def test_read_values__repetitions__the_first_is_taken(tmp_path: Path) -> None:
    first, second = blob(seed=1), blob(seed=2)
    write_series(tmp_path / "b", second, TemporalPositionIdentifier=2)
    write_series(tmp_path / "a", first, TemporalPositionIdentifier=1)
    assert np.array_equal(read_values(sorted(tmp_path.rglob("*.dcm")))[1], first.transpose(2, 1, 0))
    sorted((tmp_path / "a").iterdir())[0].unlink()
    assert "no repetition of this series has one at every place" in refusal(sorted(tmp_path.rglob("*.dcm")))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImagePositionPatient": None}, "does not say where it lies"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "position or orientation that cannot be"),
        ({"PixelSpacing": [0, 1]}, "pixel spacing that cannot be"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a colour image"),
        ({"Rows": 4000}, "pixel data that cannot be decoded"),
    ],
)
def test_read_values__refused(tmp_path: Path, tags: dict, reason: str) -> None:
    assert reason in refusal(write_series(tmp_path, **tags))


def test_read_values__truncated(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    assert "decoded" in refusal(paths) or "damaged" in refusal(paths)


@pytest.mark.real_data
@pytest.mark.parametrize("series", ["FLAIRreg", "T1post"])
def test_read_values__a_real_oblique_series_with_gaps(real_data: Path, series: str) -> None:
    paths = sorted((real_data / "medical/dicom/tcia_brain_tumor_progression_PGBM-003" / series).iterdir())
    space, values = read_values(paths)
    assert space.shape == (280, 320, 22) and space.spacing_mm == pytest.approx((0.6875, 0.6875, 6.5), abs=1e-3)
    for path in paths:
        slice_ = pydicom.dcmread(path)
        x, y, z = (float(v) for v in slice_.ImagePositionPatient)
        i, j, k = (np.linalg.inv(space.affine) @ [-x, -y, z, 1])[:3]
        assert (i, j, k - round(k)) == pytest.approx((0, 0, 0), abs=1e-3)
        assert np.array_equal(values[:, :, round(k)], slice_.pixel_array.T)


@pytest.mark.real_data
def test_read_values__a_real_mosaic_is_cut_into_its_slices(real_data: Path) -> None:
    path = real_data / "medical/dicom/siemens_epi_mosaic/mr_0003/epi_pe_ap-00001.dcm"
    space, values = read_values([path])
    picture = pydicom.dcmread(path).pixel_array
    assert space.shape == (72, 72, 5) and space.spacing_mm == pytest.approx((3, 3, 12))
    for k in range(5):  # tiles of three a row
        row, column = divmod(k, 3)
        tile = picture[72 * row : 72 * (row + 1), 72 * column : 72 * (column + 1)]
        assert np.array_equal(values[:, :, k], tile.T)
