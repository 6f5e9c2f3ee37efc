"""Generated heads: seeded, with lesions of known size, two scanners, and no trivial threshold."""

import nibabel as nib
import numpy as np
import pytest

from domains.medical.generate import SCANNERS, draw_patient, generate
from domains.medical.layout import scan
from domains.medical.quality import foreground
from domains.medical.recipes import RECIPES


@pytest.fixture(scope="module")
def patients():
    return [draw_patient(index, seed=7) for index in range(8)]


def test_draw_patient__seeded(patients):
    again, other = draw_patient(3, seed=7), draw_patient(3, seed=8)
    assert np.array_equal(again.flair, patients[3].flair) and np.array_equal(again.mask, patients[3].mask)
    assert other.flair.shape != again.flair.shape or not np.array_equal(other.flair, again.flair)


def test_draw_patient__lesion_volume_in_mm(patients):
    single = [p for p in patients if len(p.lesions_mm3) == 1]
    assert single
    for patient in single:
        voxel = float(np.prod(patient.scanner.spacing_mm))
        assert patient.mask.sum() * voxel == pytest.approx(patient.lesions_mm3[0], abs=voxel)


def test_draw_patient__both_scanners_and_healthy_ones(patients):
    assert {p.scanner for p in patients} == set(SCANNERS)
    assert {bool(p.lesions_mm3) for p in patients} == {True, False}
    assert all(p.mask.any() == bool(p.lesions_mm3) for p in patients)
    assert all(0.2 < foreground(p.flair.astype(np.float32)).mean() < 0.6 for p in patients)


def test_draw_patient__lesions_are_bright_but_not_the_brightest(patients):
    for patient in (p for p in patients if p.lesions_mm3):
        head = foreground(patient.flair.astype(np.float32))
        inside, tissue = patient.flair[patient.mask > 0], patient.flair[head]
        assert np.median(inside) > np.median(tissue)
        best = 0.0
        for level in np.percentile(patient.flair[head], np.arange(50, 100, 2)):
            found = patient.flair > level
            best = max(best, 2 * (found & (patient.mask > 0)).sum() / (found.sum() + patient.mask.sum()))
        assert best < 0.8


def test_generate__folder_is_a_dataset(tmp_path):
    generate(tmp_path, 3, seed=7)
    found = scan(tmp_path, RECIPES["brain_tumor"])
    assert [c.name for c in found.candidates] == ["case_000", "case_001", "case_002"]
    assert all(c.label for c in found.candidates) and found.statement.startswith("generated")
    axes = set()
    for candidate in found.candidates:
        image, mask = nib.load(candidate.images["flair"]), nib.load(candidate.label)
        assert np.array_equal(image.affine, mask.affine) and image.get_data_dtype() == np.int16
        axes.add("".join(nib.aff2axcodes(image.affine)))
    assert axes <= {"RAS", "LPS"}
