"""Plans: what follows from an archive's shapes and spacings."""

import numpy as np
import pytest

from domains.domain import Candidate
from domains.errors import Refused
from domains.medical.layout import scan
from domains.medical.plan import inspect, plan
from domains.medical.recipes import RECIPES

TUMOR, HIPPOCAMPUS = RECIPES["brain_tumor"], RECIPES["hippocampus"].changed({"data.plan": "auto"})


def facts(shape, spacing):
    return [{"shape": list(shape), "spacing_mm": list(spacing), "axes": "SAR"}]


def test_plan__thick_slices_are_2d():
    contract = plan(facts((36, 128, 128), (4.17, 1.875, 1.875)), TUMOR)
    assert contract.rules["kind"] == "2d" and contract.rules["spacing_mm"] == [None, 1.875, 1.875]
    assert contract.crop_shape == (128, 128) and contract.in_channels == 3 and contract.num_classes == 2
    assert contract.patch_shape == (8, 8) and contract.pooling[0] == (1, 1)


def test_plan__neighbours_make_channels():
    recipe = TUMOR.changed({"data.neighbours": "2", "data.channels": "[flair, t1]"})
    assert plan(facts((36, 128, 128), (4.17, 1.875, 1.875)), recipe).in_channels == 10


def test_plan__isotropic_is_3d():
    contract = plan(facts((36, 50, 35), (1, 1, 1)), HIPPOCAMPUS)
    assert contract.rules["kind"] == "3d" and contract.num_classes == 3 and contract.in_channels == 1
    stride = np.prod(contract.pooling, axis=0)
    assert contract.crop_shape[1] == 48 and all(32 <= size <= 40 for size in contract.crop_shape[::2])
    assert not (np.array(contract.crop_shape) % stride).any()


def test_plan__anisotropic_pools_the_fine_axes_first():
    contract = plan(facts((60, 200, 200), (1.8, 1, 1)), TUMOR)
    assert contract.rules["kind"] == "anisotropic"
    forced = plan(facts((30, 200, 200), (4, 1, 1)), TUMOR.changed({"data.plan": "3d"}))
    assert forced.pooling[1:3] == ((1, 2, 2), (1, 2, 2)) and forced.pooling[3] == (2, 2, 2)
    assert forced.patch_shape[0] < forced.patch_shape[1]


@pytest.mark.parametrize("shape", [(20, 96, 104), (33, 61, 45), (155, 240, 240), (5, 17, 16), (256, 256, 256)])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (5, 0.9, 0.9), (1.8, 1, 1)])
def test_plan__shapes_fit_together(shape, spacing):
    contract = plan(facts(shape, spacing), TUMOR)
    crop = np.array(contract.crop_shape)
    assert not (crop % np.prod(contract.pooling, axis=0)).any() and not (crop % contract.patch_shape).any()
    assert (crop <= np.array(shape)[-len(crop) :] * 1.5).all() and len(contract.pooling) >= 2


def test_plan__median_is_not_moved_by_one_odd_volume():
    usual = facts((36, 128, 128), (4.2, 1.9, 1.9)) * 9
    assert plan(usual + facts((400, 30, 30), (0.5, 9, 9)), TUMOR) == plan(usual, TUMOR)


def test_inspect__refuses_what_read_would(tmp_path):
    path = tmp_path / "flair.nii.gz"
    path.write_bytes(b"nothing")
    with pytest.raises(Refused):
        inspect(Candidate("a", "a", {"flair": path}))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "recipe", "kind", "spacing"),
    [
        ("brain_mri_lgg", TUMOR, "2d", [None, 1.875, 1.875]),
        ("hippocampus_mri", HIPPOCAMPUS, "3d", [1, 1, 1]),
        ("brain_mri_ixi/nifti", TUMOR, "3d", [2, 2, 2]),
    ],
)
def test_plan__real_archives(real_medical, folder, recipe, kind, spacing):
    found = [inspect(candidate) for candidate in scan(real_medical / folder, recipe).candidates]
    contract = plan(found, recipe)
    assert contract.rules["kind"] == kind and contract.rules["spacing_mm"] == spacing
