"""Small NIfTI files with chosen geometry, and where the real data lies."""

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def make_nifti(tmp_path):
    """Writes an array as NIfTI with the given geometry; gives the path."""

    def make(array, name="image.nii.gz", affine=None, units="mm", descrip=b""):
        image = nib.Nifti1Image(array, np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine)
        image.header.set_xyzt_units(units)
        image.header["descrip"] = descrip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
        return path

    return make


@pytest.fixture
def ball():
    """(S, A, R) float32 noise with a bright ball in it: passes every check."""
    grid = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in (20, 32, 28)), indexing="ij"))
    noise = np.random.default_rng(0).normal(0, 1, grid.shape[1:])
    return ((np.linalg.norm(grid, axis=0) < 9) * (100 + 10 * noise) + np.abs(noise)).astype(np.float32)


@pytest.fixture
def real_medical(real_data):
    """The folder of real medical data, or a skip."""
    return real_data / "medical"
