"""What goes out opens on the source's own grid, and says mm and ml only where these are known."""

import json

import nibabel
import numpy as np
import pytest

from domains.domain import Candidate
from domains.medical.readers import read_volume
from domains.medical.results import write_prediction
from tests.lesion_entries import contract_for


def source_file(path):
    """An image whose axes are left, superior, posterior, with one bright box."""
    data = np.zeros((20, 10, 24), np.int16)
    data[4:9, 2:5, 6:14] = 100
    affine = np.array([[-2.0, 0, 0, 30], [0, 0, -2.0, 40], [0, 5.0, 0, -10], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return data, affine


@pytest.mark.parametrize("notes", [{}, {"spacing": "nominal"}])
def test_write_prediction__on_the_source_grid(tmp_path, notes):
    source = tmp_path / "flair.nii.gz"
    data, affine = source_file(source)
    box = read_volume(source).data[0] > 0
    prediction = np.stack([~box, box]) * np.float32(0.9) + np.float32(0.05)
    candidate = Candidate(name="patient 7", group="patient 7", images={"flair": source}, notes=notes)
    paths = write_prediction(candidate, prediction, contract_for("2d", (64, 64)), tmp_path / "out")

    names = ["flair_prediction.nii.gz", "flair_overlay.png", "flair_result.json", "flair_uncertainty.nii.gz"]
    assert [p.name for p in paths] == names
    assert all(p.parent == tmp_path / "out" / "patient 7" for p in paths)
    mask = nibabel.load(paths[0])
    assert np.array_equal(np.asanyarray(mask.dataobj), data > 0) and np.allclose(mask.affine, affine)
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    percent = np.asanyarray(nibabel.load(paths[3]).dataobj)
    assert (percent == 29).all()  # entropy of 0.95 and 0.05 in bits is 0.286
    result = json.loads(paths[2].read_text())
    assert result["uncertainty"] == pytest.approx(0.2864, abs=1e-4)
    (only,) = result["lesions"]
    assert only["voxels"] == 120 and only["centre_voxel"] == [6.0, 3.0, 9.5] and only["max_probability"] == 0.95
    assert result["found"]["lesion"] is True and result["found"]["probability"] == 0.95
    assert result["found"]["slice_axis"] == 1  # 5 mm apart along the second axis of the file
    assert result["found"]["slices"] == [{"slice": n, "probability": 0.95} for n in (2, 3, 4)]
    (box,) = result["boxes"]
    assert box["score"] == 0.95 and box["first_voxel"] == [4, 2, 6] and box["last_voxel"] == [8, 4, 13]
    if notes:
        assert not {"centre_ras_mm", "size_mm"} & set(box)
    else:  # centre voxel (6, 3, 9.5)
        assert box["centre_ras_mm"] == [30 - 12, 40 - 19, -10 + 15] and box["size_mm"] == [10, 15, 16]
    if notes:
        assert "ml" not in only and "volume_ml" not in json.dumps(result) and "nominal" in result["spacing"]
    else:
        assert only["volume_ml"] == pytest.approx(2.4) and result["classes"]["1"]["volume_ml"] == pytest.approx(2.4)


def test_write_prediction__nothing_found(tmp_path):
    source = tmp_path / "flair.nii.gz"
    source_file(source)
    likely = np.full(read_volume(source).data[0].shape, 0.1, np.float32)
    likely[0, 3, 3] = 0.4  # a candidate that no mask has
    candidate = Candidate(name="p", group="p", images={"flair": source}, notes={})
    paths = write_prediction(candidate, np.stack([1 - likely, likely]), contract_for("2d", (64, 64)), tmp_path / "out")
    result = json.loads(paths[2].read_text())
    found = result["found"]
    assert not found["lesion"] and found["probability"] == 0.4 and found["slices"] == []
    assert "not calibrated" in found["note"]
    assert [box["score"] for box in result["boxes"]] == [0.4] and result["lesions"] == []
