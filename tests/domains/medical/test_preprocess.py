"""From file to store entry and back: checks, normalisation, resampling, bytes."""

import nibabel as nib
import numpy as np
import pytest

from domains.domain import Candidate
from domains.errors import Refused
from domains.manifest import Contract
from domains.medical.entries import open_entry, open_label
from domains.medical.labels import checked_label
from domains.medical.preprocess import normalise, read, read_label, write, write_label
from domains.medical.quality import foreground
from domains.medical.recipes import RECIPES
from domains.medical.results import write_prediction

TUMOR = RECIPES["brain_tumor"]
AFFINE = np.diag([-1.5, -1.5, 4.0, 1.0])  # LPS


def contract_for(kind, spacing_mm):
    """A contract with what `preprocess` looks at."""
    rules = {
        "kind": kind,
        "axes": "SAR",
        "neighbours": int(kind == "2d"),
        "spacing_mm": spacing_mm,
        "channels": ["flair"],
    }
    crop = (16, 16) if kind == "2d" else (16, 16, 16)
    return Contract(
        domain="medical", version=1, in_channels=3, num_classes=2, crop_shape=crop,
        pooling=((1,) * len(crop),), patch_shape=(8,) * len(crop), rules=rules,
    )  # fmt: skip


@pytest.fixture
def candidate(make_nifti, ball):
    """One LPS patient of 28 x 32 x 20 voxels with a label box."""
    array = ball.transpose(2, 1, 0)
    mask = np.zeros(array.shape, np.uint8)
    mask[12:16, 14:20, 8:11] = 1
    return Candidate(
        "p", "p", {"flair": make_nifti(array, "flair.nii.gz", AFFINE)}, make_nifti(mask, "m.nii.gz", AFFINE)
    )


def with_label(candidate, path):
    return Candidate("p", "p", candidate.images, path)


def test_read__facts_without_names(candidate):
    raw = read(candidate, TUMOR)
    assert raw.facts["shape"] == [20, 32, 28] and raw.facts["spacing_mm"] == [4.0, 1.5, 1.5]
    assert raw.facts["spacing_known"] and set(raw.facts["quality"]) == {"flair"}
    assert read(candidate, TUMOR).digest == raw.digest


def test_read__nominal_is_told_apart(candidate):
    nominal = Candidate("p", "p", candidate.images, None, {"spacing": "nominal"})
    assert not read(nominal, TUMOR).facts["spacing_known"]
    assert read(nominal, TUMOR).digest != read(candidate, TUMOR).digest


def test_write__a_missing_channel_is_zero_and_said_so(candidate, make_nifti, ball, tmp_path):
    recipe = TUMOR.changed({"data.channels": "[flair, t1, t2]"})
    t2 = make_nifti(ball.transpose(2, 1, 0) ** 2, "t2.nii.gz", AFFINE)
    raw = read(Candidate("p", "p", {**candidate.images, "t2": t2}), recipe)
    assert raw.facts["missing_channels"] == "t1" and set(raw.facts["quality"]) == {"flair", "t2"}
    write(raw, contract_for("3d", [4.0, 2.0, 2.0]), tmp_path)
    entry = open_entry(tmp_path)
    assert entry.channels_present.tolist() == [True, False, True]
    assert [entry.read()[i].any() for i in range(3)] == [True, False, True]
    alone = read(candidate, recipe)
    assert alone.facts["missing_channels"] == "t1, t2" and alone.digest != raw.digest
    with pytest.raises(Refused, match="channel flair is missing"):
        read(Candidate("p", "p", {"t2": t2}), recipe)


def test_write__a_whole_subject_has_no_file_of_channels(candidate, tmp_path):
    folder = tmp_path / "entry"
    folder.mkdir()
    write(read(candidate, TUMOR), contract_for("2d", [None, 1.5, 1.5]), folder)
    assert sorted(p.name for p in folder.iterdir()) == ["foreground.b2nd", "grid.json", "image.b2nd"]
    assert open_entry(folder).channels_present.tolist() == [True]


def test_write__same_bytes_twice(candidate, tmp_path):
    raw, contract = read(candidate, TUMOR), contract_for("2d", [None, 2.0, 2.0])
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
        write(raw, contract, folder)
    files = [{p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders]
    assert files[0] == files[1] and set(files[0]) == {"image.b2nd", "foreground.b2nd", "grid.json"}


def test_write__resampled_grid_and_windows(candidate, tmp_path):
    raw, contract = read(candidate, TUMOR), contract_for("2d", [None, 2.0, 2.0])
    facts = write(raw, contract, tmp_path)
    entry = open_entry(tmp_path)
    assert facts["stored_shape"] == [20, 24, 21] == list(entry.shape) and entry.native_shape == (20, 32, 28)
    assert entry.spacing_mm == pytest.approx((4, 2, 2)) and entry.native_spacing_mm == (4.0, 1.5, 1.5)
    whole = entry.read()
    assert whole.dtype == np.float32 and np.array_equal(entry.read([(3, 7), (5, 20), (0, 9)]), whole[:, 3:7, 5:20, :9])
    beyond = entry.read([(-2, 3), (0, 24), (18, 25)])
    assert np.array_equal(beyond, np.pad(whole, ((0, 0), (2, 0), (0, 0), (0, 4)), mode="edge")[:, :5, :, 18:])
    assert not entry.read_foreground([(-2, 0 + 1), (0, 24), (0, 21)])[:2].any()
    with pytest.raises(ValueError, match="does not touch"):
        entry.read([(40, 50), (0, 5), (0, 5)])


def test_slices__neighbours_are_channels(candidate, tmp_path):
    contract = contract_for("2d", [None, None, None])
    write(read(candidate, TUMOR), contract, tmp_path)
    entry = open_entry(tmp_path)
    whole = entry.read()[0]
    assert np.array_equal(entry.slices([0, 5], 1), np.stack([whole[[0, 0, 1]], whole[[4, 5, 6]]]))
    assert entry.model_input(contract).shape == (20, 3, 32, 28)
    assert np.array_equal(entry.model_input(contract_for("3d", [None] * 3))[0, 0], whole)


@pytest.mark.parametrize("scale", [2.54, 1.7e4, 1e-3])
def test_normalise__any_scanner_scale(ball, scale):
    expected = normalise(ball, foreground(ball))
    assert np.allclose(normalise(ball * np.float32(scale) + 5, foreground(ball)), expected, atol=2e-3)
    inside = expected[foreground(ball)]
    assert abs(np.median(inside)) < 1e-5 and np.percentile(inside, 95) - np.percentile(inside, 5) == pytest.approx(
        3.29, rel=0.01
    )


def test_normalise__no_contrast():
    with pytest.raises(Refused, match="no contrast"):
        normalise(np.ones((20, 20, 20)), np.ones((20, 20, 20), bool))


def test_label__native_kept_beside_resampled(candidate, tmp_path):
    raw = read(candidate, TUMOR)
    for name, spacing in (("same", [None] * 3), ("other", [None, 2.0, 2.0])):
        contract = contract_for("2d", spacing)
        (tmp_path / name).mkdir()
        label = read_label(candidate, raw, contract)
        facts = write_label(label, contract, tmp_path / name)
        entry = open_label(tmp_path / name)
        assert np.array_equal(entry.native, label.label) and entry.native.sum() == 4 * 6 * 3
        assert (tmp_path / name / "native.b2nd").exists() == (name == "other")
        assert entry.read().shape == entry.grid.stored_shape and entry.read().any()
        assert facts["labelled_slices"] == 3
        assert facts["class_fractions"] == [pytest.approx(72 / (20 * 32 * 28), abs=1e-6)]


def test_read_label__refused(candidate, make_nifti):
    raw, contract = read(candidate, TUMOR), contract_for("2d", [None] * 3)
    shape = (28, 32, 20)
    three = np.zeros(shape, np.uint8)
    three[3, 3, 3], three[4, 4, 4] = 1, 3
    for path, reason in (
        (make_nifti(np.zeros((28, 32, 19), np.uint8), "a.nii.gz", AFFINE), "label has 19 x 32 x 28 voxels"),
        (make_nifti(np.zeros(shape, np.uint8), "b.nii.gz", np.diag([1.5, 1.5, 4.0, 1])), "mm away from its image"),
        (make_nifti(three, "c.nii.gz", AFFINE), r"label values \[3\] are no class"),
    ):
        with pytest.raises(Refused, match=reason):
            read_label(with_label(candidate, path), raw, contract)


def test_checked_label__values():
    label = np.array([0, 2, 255], np.uint8)
    assert checked_label(np.array([0, 255], np.uint8), 2).tolist() == [0, 1]
    assert checked_label(label, 3, {2: 1, 255: 2}).tolist() == [0, 1, 2]
    assert checked_label(np.zeros(3, np.uint8), 2).tolist() == [0, 0, 0]
    with pytest.raises(Refused):
        checked_label(label, 2)
    with pytest.raises(Refused):
        checked_label(np.array([0, 255], np.uint8), 3)


def test_write_prediction__round_trip_to_the_source(candidate, tmp_path):
    raw, contract = read(candidate, TUMOR), contract_for("2d", [None] * 3)
    truth = read_label(candidate, raw, contract).label
    path, *_ = write_prediction(
        candidate, np.stack([truth == 0, truth == 1]).astype(np.float32), contract, tmp_path / "out"
    )
    source, mask = nib.load(path), nib.load(candidate.label)
    assert path == tmp_path / "out" / "p" / "flair_prediction.nii.gz" and np.array_equal(source.affine, mask.affine)
    assert np.array_equal(np.asarray(source.dataobj), np.asarray(mask.dataobj))
