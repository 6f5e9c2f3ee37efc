"""NIfTI masks on DICOM series: each to the series on whose grid it lies, or refused with both grids or the names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import blob, write_series

from domains.domain import find_recipe
from domains.medical.dicom.volume import read_space
from domains.medical.layout import scan
from domains.medical.sources import read_outline
from domains.recipe import Recipe
from pipelines.dataset import open_dataset
from pipelines.ingest import ingest


@pytest.fixture
def recipe() -> Recipe:
    return find_recipe("brain_tumor")[1]


def series(folder: Path, patient: str, **tags: object) -> list[Path]:
    """Of a patient, with ids of its own; patients lie on one grid."""
    ids = {"PatientID": patient, "StudyInstanceUID": f"1.{patient[1:]}", "SeriesInstanceUID": f"1.{patient[1:]}.1"}
    return write_series(folder, blob(8, 40, 40, seed=int(patient[1:])), **(ids | tags))


def draw(path: Path, slices: list[Path], change: Callable = lambda image: image) -> np.ndarray:
    """Saves a mask (columns, rows, slices) as a viewer does, on the grid of a series; `change` does more to it."""
    space = read_space(slices)
    mask = np.zeros(space.shape, np.uint8)
    mask[5:12, 20:25, 2:4] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(change(nibabel.Nifti1Image(mask, space.affine)), path)
    return mask


def turned(image: nibabel.Nifti1Image) -> nibabel.Nifti1Image:
    """Axes and directions in another order, voxels where they were: what other writers of NIfTI do."""
    return image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))


@pytest.mark.parametrize("change", [lambda image: image, turned])
@pytest.mark.parametrize("place", ["x/mask.nii.gz", "x/FLAIR/Segmentation.nii.gz", "x-label.nii.gz"])
def test_ingest__a_mask_in_any_axis_order_is_its_series_label(
    tmp_path: Path, recipe: Recipe, place: str, change: Callable
) -> None:
    slices = series(tmp_path / "in/x/FLAIR", "p1")
    mask = draw(tmp_path / "in" / place, slices, change)
    done = ingest(tmp_path / "in", recipe, tmp_path / "home")
    assert (done.counts["accepted"], done.counts["labels"], done.refused) == (8, 1, [])
    [candidate] = scan(tmp_path / "in", recipe).candidates
    assert np.array_equal(read_space(slices).from_canonical(read_outline(candidate)[0].data[0]), mask)


def test_scan__its_own_folder_before_another_one_on_the_same_grid(tmp_path: Path, recipe: Recipe) -> None:
    for patient in ("p1", "p2"):
        draw(tmp_path / patient / "mask.nii.gz", series(tmp_path / patient / "a", patient))
    assert [c.label for c in scan(tmp_path, recipe).candidates] == [tmp_path / p / "mask.nii.gz" for p in ("p1", "p2")]


def test_scan__masks_in_a_folder_apart_by_name(tmp_path: Path, recipe: Recipe) -> None:
    for patient in ("p1", "p10"):
        draw(tmp_path / f"masks/{patient}_seg.nii.gz", series(tmp_path / "dicom" / patient, patient))
    found = scan(tmp_path, recipe)
    labels = {c.group: c.label and c.label.name for c in found.candidates}
    assert labels == {"p1": "p1_seg.nii.gz", "p10": "p10_seg.nii.gz"} and not found.refused


def test_scan__several_series_alike__refused_and_the_names_stay_on_the_terminal(tmp_path: Path, recipe: Recipe) -> None:
    slices, _ = (series(tmp_path / "in" / patient, patient) for patient in ("p1", "p2"))
    draw(tmp_path / "in" / "some_mask.nii.gz", slices)
    done = ingest(tmp_path / "in", recipe, tmp_path / "home")
    [(path, reason)] = done.refused
    assert path.endswith("some_mask.nii.gz") and "grid of 2 series alike" in reason
    assert reason.endswith("p1/1.1, p2/1.2") and done.counts["labels"] == 0
    for file in (tmp_path / "home").rglob("*.json"):
        assert "p1/1.1" not in file.read_text()


@pytest.mark.parametrize("case", ["shape", "moved", "beside a series that is not taken", "another patient's name"])
def test_scan__on_no_grid__refused_with_both(tmp_path: Path, recipe: Recipe, case: str) -> None:
    slices = series(tmp_path / "p1", "p1")
    place, change = tmp_path / "p1" / "mask.nii.gz", turned
    if case == "shape":
        change = lambda image: image.slicer[:, :, :6]  # noqa: E731
    elif case == "moved":
        shift = np.array([[0, 0, 0, 0.5]] + 3 * [[0.0] * 4])
        change = lambda image: nibabel.Nifti1Image(image.dataobj, image.affine + shift)  # noqa: E731
    elif case == "another patient's name":
        write_series(tmp_path / "p2", blob(9, 40, 40), PatientID="p2", StudyInstanceUID="2", SeriesInstanceUID="2.1")
        place = tmp_path / "masks" / "p2.mask.nii.gz"
    else:
        series(tmp_path / "p2", "p2", ScanningSequence="SE", InversionTime=None, RepetitionTime=500, EchoTime=10)
        place = tmp_path / "p2" / "mask.nii.gz"
    draw(place, slices, change)
    found = scan(tmp_path, recipe)
    reason = found.refused[place]
    assert all(c.label is None for c in found.candidates)
    assert "on the grid of no series: it has" in reason
    if case in ("shape", "moved"):
        sizes = ("40 x 40 x 6" if case == "shape" else "40 x 40 x 8", "40 x 40 x 8")
        assert f"it has {sizes[0]} voxels with affine (" in reason
        assert f"the series there has {sizes[1]} voxels with affine (" in reason
    assert ("no series beside it is taken" in reason) == case.startswith("beside")
    assert ("40 x 40 x 9" in reason) == case.startswith("another")


def test_scan__a_second_mask_and_a_broken_one(tmp_path: Path, recipe: Recipe) -> None:
    slices = series(tmp_path / "p1", "p1")
    for name in ("a_mask.nii.gz", "b_mask.nii.gz"):
        draw(tmp_path / "p1" / name, slices)
    (tmp_path / "p1" / "c_mask.nii.gz").write_bytes(b"nothing")
    found = scan(tmp_path, recipe)
    assert found.candidates[0].label == tmp_path / "p1" / "a_mask.nii.gz"
    assert found.ignored[tmp_path / "p1" / "b_mask.nii.gz"] == "a second mask of its series"
    assert "not a NIfTI file" in found.refused[tmp_path / "p1" / "c_mask.nii.gz"]


def test_scan__nifti_patients_beside_dicom_keep_their_masks(tmp_path: Path, recipe: Recipe) -> None:
    slices = series(tmp_path / "p1", "p1")
    draw(tmp_path / "p1" / "mask.nii.gz", slices)
    for name in ("flair", "mask", "second_mask"):
        draw(tmp_path / "n1" / f"{name}.nii.gz", slices)
    found = scan(tmp_path, recipe)
    assert {c.name: c.label and c.label.parent.name for c in found.candidates} == {"n1": "n1", "p1/1.1": "p1"}
    assert not found.refused and found.ignored[tmp_path / "n1" / "second_mask.nii.gz"] == "a second label"


@pytest.mark.real_data
def test_ingest__a_mask_on_the_real_oblique_series(real_data: Path, tmp_path: Path, recipe: Recipe) -> None:
    study = real_data / "medical/dicom/tcia_brain_tumor_progression_PGBM-003"
    slices = sorted((study / "FLAIRreg").iterdir())
    (tmp_path / "in").mkdir()
    for folder in study.iterdir():
        (tmp_path / "in" / folder.name).mkdir()
        for path in folder.iterdir():
            (tmp_path / "in" / folder.name / path.name).symlink_to(path)
    mask = draw(tmp_path / "in" / "tumor-mask.nii.gz", slices, turned)
    done = ingest(tmp_path / "in", recipe, tmp_path / "home")
    assert (done.counts["accepted"], done.counts["labels"]) == (22, 1)
    manifest, labels = open_dataset(recipe, tmp_path / "home")
    assert list(labels.entries) == [manifest.subjects[0].subject_id] and mask.any()
