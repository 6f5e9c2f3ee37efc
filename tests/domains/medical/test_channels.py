"""Channels on other grids: laid over the first one by their affines, or refused with both places named."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from domains.domain import Candidate
from domains.errors import Refused
from domains.medical.channels import read_channels

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
    text = (
        r"channel t1 \(20 x 44 x 40 voxels with affine .* 12.5\)\) covers .* in flair \(20 x 44 x 40 .* -47.5\)"
    )
    with pytest.raises(Refused, match=text):
        read_channels(far, NAMES)


def test_read_channels__nominal_spacing_says_nothing_about_places(tmp_path):
    shape = (40, 44, 18)
    one = both(tmp_path, shape, affine_of(shape, SPACING), {"spacing": "nominal"})
    with pytest.raises(Refused, match="channel t1, of nominal spacing, has 18 x 44 x 40 voxels with affine .*, its image 20"):
        read_channels(one, NAMES)
