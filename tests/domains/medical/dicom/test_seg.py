"""SEG: what is read back equals the mask and lies on its series, frame by frame."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from dicom_files import WHOLE, blob, position, write_enhanced, write_series

from domains.domain import find_recipe
from domains.errors import Refused
from domains.medical.dicom.instance import read_instance
from domains.medical.dicom.seg import write_seg
from domains.medical.dicom.seg_in import read_seg
from domains.medical.dicom.stack import stack_of
from domains.medical.dicom.volume import read_space
from domains.medical.layout import scan
from domains.medical.plan import inspect, plan
from domains.medical.preprocess import read, read_label
from domains.medical.results import write_prediction
from domains.medical.sources import read_outline
from pipelines.ingest import ingest


def mask_of(volume: np.ndarray) -> np.ndarray:
    """(columns, rows, slices): class 1 below, class 2 above, a slice without any."""
    mask = (volume > 2000).astype(np.uint8).transpose(2, 1, 0)
    mask[:, :, len(volume) // 2 :] *= 2
    mask[:, :, 1] = 0
    return mask


def test_write_seg__read_back_it_is_the_mask_on_its_series(tmp_path: Path) -> None:
    volume = blob()
    paths = write_series(tmp_path / "in", volume, **WHOLE)
    mask = mask_of(volume)
    write_seg(tmp_path / "seg.dcm", mask, sorted(paths), ["tumor", "core"])
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in paths]
    back = seg.get_pixels_by_source_instance(uids, combine_segments=True)
    assert np.array_equal(back, mask.transpose(2, 1, 0))
    for frame in seg.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        np.testing.assert_allclose(place, position(uids.index(source)), atol=1e-3)
    first, second = seg.SegmentSequence
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert second.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "99SELFSIGHT"
    assert first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "selfsight"
    assert (seg.PatientName, seg.StudyInstanceUID) == ("Doe^Jane", "1.2.3.1")  # it goes back to the reader


def test_write_seg__of_frames_in_one_file(tmp_path: Path) -> None:
    volume = blob()
    write_enhanced(tmp_path / "e.dcm", volume)
    made = pydicom.dcmread(tmp_path / "e.dcm")
    for name, value in WHOLE.items():
        if value is not None:
            setattr(made, name, value)
    made.save_as(tmp_path / "e.dcm")
    mask = mask_of(volume)
    write_seg(tmp_path / "seg.dcm", mask, [tmp_path / "e.dcm"], ["tumor", "core"])
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    found = {}
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        place = np.array([float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient])
        k = round(float(np.linalg.norm(place - position(0)) / np.linalg.norm(position(1) - position(0))))
        found[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber, k] = pixels
    assert len(found) == 2 * len(volume)
    for (number, k), pixels in found.items():
        assert np.array_equal(pixels, number == mask[:, :, k].T)


def test_write_seg__a_source_without_a_frame_of_reference(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "in", **(WHOLE | {"FrameOfReferenceUID": None}))
    with pytest.raises(Refused, match="lack what a SEG must repeat"):
        write_seg(tmp_path / "seg.dcm", mask_of(blob()), paths, ["tumor", "core"])


@pytest.mark.real_data
def test_write_prediction__nifti_and_seg_of_a_real_series_say_the_same(real_data: Path, tmp_path: Path) -> None:
    recipe = find_recipe("brain_tumor")[1]
    [candidate] = scan(real_data / "medical/dicom/tcia_brain_tumor_progression_PGBM-003", recipe).candidates
    contract = plan([inspect(candidate)], recipe)
    shape = tuple(inspect(candidate)["shape"])
    probability = np.zeros((2, *shape), np.float32)
    probability[1, 8:14, 100:160, 60:150] = 0.9
    probability[0] = 1 - probability[1]
    files = {file.name: file for file in write_prediction(candidate, probability, contract, tmp_path)}
    nifti = nibabel.load(files["flair_prediction.nii.gz"])
    mask = np.asarray(nifti.dataobj)
    paths = list(candidate.images.values())
    np.testing.assert_allclose(nifti.affine, read_space(paths).affine, atol=1e-4)
    seg = highdicom.seg.segread(files["flair_seg.dcm"])
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in paths]
    back = seg.get_pixels_by_source_instance(uids, combine_segments=True)
    assert mask.sum() == 6 * 60 * 90 and np.array_equal(back, mask.transpose(2, 1, 0))
    assert json.loads(files["flair_result.json"].read_text())["seg"] == "flair_seg.dcm"


def labelled(tmp_path: Path, names: list[str], mask: np.ndarray | None = None) -> Path:
    """A folder with a series and a SEG of it under another name."""
    volume = blob(8, 40, 40)
    paths = write_series(tmp_path / "in" / "series", volume, **WHOLE)
    write_seg(tmp_path / "in" / "drawn.dcm", mask_of(volume) if mask is None else mask, paths, names)
    return tmp_path / "in"


def test_ingest__a_seg_beside_its_series_is_its_label(tmp_path: Path) -> None:
    recipe = find_recipe("brain_tumor")[1]
    mask = np.minimum(mask_of(blob(8, 40, 40)), 1)
    folder = labelled(tmp_path, ["Tumor"], mask)
    done = ingest(folder, recipe, tmp_path / "home")
    assert (done.counts["accepted"], done.counts["labels"]) == (8, 1)
    [candidate] = scan(folder, recipe).candidates
    volume, classes = read_outline(candidate)
    assert classes == {1: 1}
    space = read_space(list(candidate.images.values()))
    assert np.array_equal(space.from_canonical(volume.data[0]), mask)


def test_read_seg__classes_by_name_in_any_order(tmp_path: Path) -> None:
    recipe = find_recipe("brain_tumor")[1].changed({"data.label_classes": '["core", "edema"]'})
    folder = labelled(tmp_path, ["Edema", "CORE"])
    [candidate] = scan(folder, recipe).candidates
    contract = plan([inspect(candidate)], recipe)
    label = read_label(candidate, read(candidate, recipe), contract).label
    mask = mask_of(blob(8, 40, 40))
    assert [(label == k).sum() for k in (1, 2)] == [(mask == 2).sum(), (mask == 1).sum()]


def test_read_seg__refused(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["a", "b"])
    seg, space = folder / "drawn.dcm", read_space(sorted((folder / "series").iterdir()))
    moved = replace(space, affine=space.affine + np.array([[0, 0, 0, 0.5]] + 3 * [[0.0] * 4]))
    with pytest.raises(
        Refused, match=r"another grid .* begins at \(20 19.66 43.44\) .* its image has 40 x 40 x 8 voxels with"
    ):
        read_seg(seg, moved)
    with pytest.raises(Refused, match="label of 40 x 40 pixels, its image has 39 x 40"):
        read_seg(seg, replace(space, shape=(39, 40, 8)))
    both = pydicom.dcmread(seg)
    for frame in both.PerFrameFunctionalGroupsSequence[:8]:
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 2
    both.PixelData = b"\xff" * len(both.PixelData)
    for frame, place in zip(both.PerFrameFunctionalGroupsSequence, range(16), strict=True):
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1 + place % 2
        frame.PlanePositionSequence[0].ImagePositionPatient = [float(f"{v:.6f}") for v in position(place // 2)]
    both.save_as(seg)
    with pytest.raises(Refused, match="two segments overlap"):
        read_seg(seg, space)


@pytest.mark.real_data
def test_ingest__a_real_predicted_seg_comes_back_as_a_label(real_data: Path, tmp_path: Path) -> None:
    recipe = find_recipe("brain_tumor")[1]
    series = sorted((real_data / "medical/dicom/tcia_brain_tumor_progression_PGBM-003/FLAIRreg").iterdir())
    folder = tmp_path / "in"
    folder.mkdir()
    for path in series:
        (folder / path.name).symlink_to(path)
    space = read_space(series)
    mask = np.zeros(space.shape, np.uint8)
    mask[60:100, 120:180, 8:12] = 1
    ordered = [one.path for one in stack_of([read_instance(path) for path in series]).slices]
    write_seg(folder / "seg.dcm", mask, ordered, ["tumor"])
    done = ingest(folder, recipe, tmp_path / "home")
    assert (done.counts["accepted"], done.counts["labels"]) == (22, 1)
    [candidate] = scan(folder, recipe).candidates
    assert read_outline(candidate)[0].data.sum() == mask.sum()
