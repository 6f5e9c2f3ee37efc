"""What is handed out is what is scanned again: every channel, no draft, and the answer where the reader was told."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import blob, write_series
from nifti_files import write_nifti

from domains.domain import Candidate, Case
from domains.errors import UsageError
from domains.medical.hand_out import hand_out_volumes
from domains.medical.layout import scan
from domains.medical.recipes import RECIPES

TUMOR, HIPPOCAMPUS = RECIPES["brain_tumor"], RECIPES["hippocampus"]


def test_hand_out_volumes__two_channels_a_draft_and_the_answer(tmp_path: Path) -> None:
    recipe = TUMOR.changed({"data.channels": '["flair", "t1"]'})
    images = {
        "flair": write_nifti(tmp_path / "in" / "x_F.nii.gz", 1),
        "t1": write_nifti(tmp_path / "in" / "y.nii.gz", 2),
    }
    guess = np.zeros((2, 12, 48, 48), np.float32)  # (K, D, H, W): from below, from behind, from the left
    guess[1, 2, 10:20, 30:40] = 1
    guess[0] = 1 - guess[1]
    out = tmp_path / "out"
    out.mkdir()
    done = hand_out_volumes([Case("roe", Candidate("a/roe", "roe", images), guess)], recipe, out)
    assert (done.answers, done.drafts) == (["roe/mask.nii.gz"], ["roe/draft.nii.gz"])
    draft, image = nibabel.load(out / done.drafts[0]), nibabel.load(images["flair"])
    assert np.array_equal(draft.affine, image.affine)
    assert np.array_equal(np.argwhere(draft.dataobj).min(0), (30, 10, 2))
    found = scan(out, recipe)
    [case] = found.candidates
    assert found.labels_only and case.label is None
    assert case.images == {"flair": out / "roe/flair/x_F.nii.gz", "t1": out / "roe/t1/y.nii.gz"}
    assert "saved under a label's name" in found.ignored[out / done.drafts[0]]
    shutil.copy(out / done.drafts[0], out / done.answers[0])
    assert [one.label for one in scan(out, recipe).candidates] == [out / done.answers[0]]


def test_hand_out_volumes__derived_slices_come_back_as_what_they_were(tmp_path: Path) -> None:
    """dataset.yaml had named them; the folder that is handed out must do so too."""
    slices = write_series(tmp_path / "in", blob(8, 40, 40), ImageType=["DERIVED", "SECONDARY"])
    images = {f"flair/{n:04d}": path for n, path in enumerate(slices)}
    out = tmp_path / "out"
    out.mkdir()
    hand_out_volumes([Case("case", Candidate("p/1", "p", images), None)], TUMOR, out)
    [case] = scan(out, TUMOR).candidates
    assert [path.read_bytes() for path in case.images.values()] == [path.read_bytes() for path in slices]


def test_hand_out_volumes__what_the_reader_is_told(tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "a.nii.gz", 1)
    cases = [Case("a", Candidate("a", "a", {"image": image}, notes={"spacing": "nominal"}), None)]
    (tmp_path / "one").mkdir()
    how = " ".join(hand_out_volumes(cases, HIPPOCAMPUS, tmp_path / "one").how)
    assert "1 anterior, 2 posterior. An empty mask is refused." in how and "<case>/mask.nii.gz" in how
    assert scan(tmp_path / "one", HIPPOCAMPUS).candidates[0].notes["spacing"] == "nominal"
    cases.append(Case("b", Candidate("b", "b", {"image": image}, notes={"spacing": "real"}), None))
    with pytest.raises(UsageError, match="hand out fewer at a time"):
        hand_out_volumes(cases, HIPPOCAMPUS, tmp_path / "two")
