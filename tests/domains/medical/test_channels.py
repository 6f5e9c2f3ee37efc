"""Channels on other grids: laid over the first one by their affines, or refused with both places named."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_files import DIRECTIONS, T1, blob, write_series
from dicom_files import SPACING as SPACING_MM
from scipy import ndimage

from domains.domain import Candidate
from domains.errors import Refused
from domains.medical.channels import read_channels
from domains.medical.layout import scan
from domains.medical.recipes import RECIPES

SHAPE, SPACING = (40, 44, 20), (2.0, 2.0, 5.0)
ANGLE = 0.35
NAMES = ("flair", "t1")


def world(x, y, z):
    """Signal of a head at a place in mm: an ellipsoid with a bright blob off centre."""
    head = (x / 34) ** 2 + (y / 38) ** 2 + (z / 44) ** 2 < 1
    return 100.0 * head + 80 * np.exp(-((x - 12) ** 2 + (y + 10) ** 2 + (z - 9) ** 2) / 180)


def affine_of(shape, spacing, turn=0.0, shift=(0.0, 0.0, 0.0)):
    """Turned about the left-right axis, its middle at `shift`."""
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = np.array(shift) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def scanned(path: Path, shape, affine) -> Path:
    """The world as a scanner with this grid sees it."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(3, -1)
    points = affine[:3, :3] @ index + affine[:3, 3:]
    image = ndimage.gaussian_filter(world(*points).reshape(shape), 0.5).astype(np.float32)
    made = nib.Nifti1Image(image, affine)
    made.header.set_xyzt_units("mm")
    nib.save(made, path)
    return path


def both(tmp_path, shape, affine, notes=None):
    flair = scanned(tmp_path / "flair.nii.gz", SHAPE, affine_of(SHAPE, SPACING))
    images = {"flair": flair, "t1": scanned(tmp_path / "t1.nii.gz", shape, affine)}
    return Candidate("p", "p", images, None, notes or {})


def test_read_channels__an_oblique_finer_stack_lines_up(tmp_path):
    shape = (70, 60, 30)
    read, found = read_channels(both(tmp_path, shape, affine_of(shape, (1.4, 1.7, 3.9), ANGLE)), NAMES)
    flair, t1 = found["flair"].volume.data[0], found["t1"].volume.data[0]
    assert t1.shape == flair.shape and np.array_equal(found["t1"].volume.affine, found["flair"].volume.affine)
    assert found["t1"].volume.digest == read["t1"].volume.digest
    head = found["flair"].inside & found["t1"].inside
    assert np.abs(t1 - flair)[ndimage.binary_erosion(head)].mean() < 2  # of a signal of 100 with a blob of 80 on it
    centres = [ndimage.center_of_mass(np.clip(image - 110, 0, None)) for image in (flair, t1)]
    assert np.abs(np.subtract(*centres) * found["flair"].volume.spacing_mm).max() < 1.0  # mm
    assert 2 * head.sum() / (found["flair"].inside.sum() + found["t1"].inside.sum()) > 0.95


def test_read_channels__the_same_grid_is_not_touched(tmp_path):
    read, found = read_channels(both(tmp_path, SHAPE, affine_of(SHAPE, SPACING, shift=(0.4, 0, 0))), NAMES)
    assert found["t1"] is read["t1"]


def test_read_channels__where_it_does_not_reach_it_has_the_median(tmp_path):
    shape = (40, 44, 12)
    read, found = read_channels(both(tmp_path, shape, affine_of(shape, SPACING, shift=(0, 0, 10.0))), NAMES)
    t1 = found["t1"]
    middle = np.median(read["t1"].volume.data[0][read["t1"].inside])
    outside = np.ones(len(t1.volume.data[0]), bool)
    outside[6:18] = False  # D grows upwards: 12 of 20 slices, their middle 10 mm above
    head = found["flair"].inside[outside]
    assert (t1.volume.data[0][outside][head] == middle).all() and not t1.inside[outside].any()
    assert (t1.volume.data[0][outside][~head] == read["t1"].volume.data.min()).all()
    assert np.allclose(t1.volume.data[0][6:18], read["t1"].volume.data[0], atol=1e-3)


def test_read_channels__refused_elsewhere_with_both_places(tmp_path):
    far = both(tmp_path, SHAPE, affine_of(SHAPE, SPACING, shift=(0, 0, 60.0)))
    text = r"channel t1 \(20 x 44 x 40 voxels with affine .* 12.5\)\) covers .* in flair \(20 x 44 x 40 .* -47.5\)"
    with pytest.raises(Refused, match=text):
        read_channels(far, NAMES)


def test_read_channels__nominal_spacing_says_nothing_about_places(tmp_path):
    shape = (40, 44, 18)
    one = both(tmp_path, shape, affine_of(shape, SPACING), {"spacing": "nominal"})
    with pytest.raises(
        Refused, match=r"channel t1, of nominal spacing, has 18 x 44 x 40 voxels with affine .*, its image 20"
    ):
        read_channels(one, NAMES)


def test_read_channels__a_dicom_series_of_larger_pixels(tmp_path):
    """The T1 of a study with the mean of 2 x 2 pixels in one; its first pixel lies half a pixel further."""
    tags = {"FrameOfReferenceUID": "1.2.3.4"}
    write_series(tmp_path / "flair", blob(8, 40, 40), **tags)
    fine, (rows, columns) = blob(8, 40, 40, seed=1), SPACING_MM
    coarse = fine.reshape(8, 20, 2, 20, 2).mean((2, 4)).astype(np.uint16)
    shift = 0.5 * columns * DIRECTIONS[0] + 0.5 * rows * DIRECTIONS[1]
    for path in write_series(tmp_path / "t1", coarse, SeriesInstanceUID="1.2.3.1.2", **tags, **T1):
        one = pydicom.dcmread(path)
        one.PixelSpacing = [2 * rows, 2 * columns]
        one.ImagePositionPatient = [float(f"{v:.6f}") for v in np.array(one.ImagePositionPatient, float) + shift]
        one.save_as(path)
    (candidate,) = scan(tmp_path, RECIPES["brain_tumor"].changed({"data.channels": "[flair, t1]"})).candidates
    read, found = read_channels(candidate, NAMES)
    assert read["t1"].volume.data.shape == (1, 8, 20, 20) and found["t1"].volume.data.shape == (1, 8, 40, 40)
    original = np.ascontiguousarray(fine[:, ::-1, ::-1]).astype(np.float32)  # as canonical axes have it
    inner = (slice(None), slice(4, -4), slice(4, -4))
    smooth = ndimage.gaussian_filter(original, (0, 1, 1))
    moved = [np.roll(found["t1"].volume.data[0], by, (1, 2)) for by in ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))]
    errors = [np.abs(one - smooth)[inner].mean() for one in moved]
    assert min(errors) == errors[0] and errors[0] < 0.5 * min(errors[1:])


@pytest.mark.real_data
def test_read_channels__flair_and_t1post_of_a_real_study(real_data):
    folder = real_data / "medical/dicom/tcia_brain_tumor_progression_PGBM-003"
    recipe = RECIPES["brain_tumor"].changed({"data.channels": "[flair, t1post]"})
    (candidate,) = scan(folder, recipe).candidates
    _, found = read_channels(candidate, ("flair", "t1post"))
    assert len(candidate.images) == 44 and found["t1post"].volume.data.shape == (1, 22, 320, 280)
    heads = [found[name].inside for name in ("flair", "t1post")]
    assert 2 * (heads[0] & heads[1]).sum() / (heads[0].sum() + heads[1].sum()) > 0.9
