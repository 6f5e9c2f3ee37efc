"""The labelling loop: chosen cases go out with their images, a reader's masks come back to the same subjects."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import blob, write_series
from nifti_files import write_nifti
from typer.testing import CliRunner
from xray_files import write_archive, write_rows

from domains.domain import find_recipe
from domains.errors import NothingUsable, UsageError
from domains.medical.dicom.volume import read_space
from domains.recipe import Recipe
from domains.store import Store
from flows.cli import app
from pipelines.dataset import open_dataset
from pipelines.finetune import finetune
from pipelines.hand_out import README, hand_out
from pipelines.ingest import ingest
from pipelines.next import next_groups
from pipelines.pretrain import pretrain, pretrain_key
from pipelines.registry import register_model


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten small unlabelled volumes, for all that needs no head to be seen in them."""
    folder = tmp_path_factory.mktemp("unlabelled") / "heads"
    for number in range(10):
        write_nifti(folder / f"case_{number:03}" / "flair.nii.gz", seed=number)
    return folder


def test_loop__from_an_unlabelled_archive_to_a_model_and_the_next_cases(
    archive: Path, quick: Recipe, tmp_path: Path
) -> None:
    home, out, heads = tmp_path / "home", tmp_path / "todo", tmp_path / "heads"
    quick = quick.changed({"finetune.self_training": "0"})
    shutil.copytree(archive, heads, ignore=shutil.ignore_patterns("mask.nii.gz", "case_00[7-9]"))
    ingest(heads, quick, home)
    before, none = open_dataset(quick, home)
    assert not none.entries
    encoder = pretrain(quick, home)
    key = pretrain_key(Store(home), quick, before.contract, before.subjects)

    found = next_groups(quick, home, 3)
    handed = hand_out(found, quick, home, out)
    readme = (out / README).read_text()
    assert [one.case for one in handed] == [case for case in readme.splitlines() if case.startswith("case_")]
    for one in handed:
        assert one.why in readme and f"selfsight ingest brain_tumor {out}" in readme
        source, copy = heads / one.case / "flair.nii.gz", out / one.case / "flair" / "flair.nii.gz"
        assert copy.read_bytes() == source.read_bytes()
        if one.draft:
            draft, image = nibabel.load(out / one.draft), nibabel.load(source)
            assert draft.shape == image.shape and np.array_equal(draft.affine, image.affine)
            assert set(np.unique(draft.dataobj)) == {0, 1}
    assert sum(bool(one.draft) for one in handed) >= 2

    nothing = ingest(out, quick, home)  # drafts are no answers, and images are no new subjects
    after, labels = open_dataset(quick, home)
    assert (nothing.counts["labels"], nothing.counts["subjects"], nothing.refused) == (0, 7, [])
    assert nothing.notes[0].startswith("0 of the 3 images") and not labels.entries

    for one in handed[:2]:  # the third is not finished
        shutil.copy(archive / one.case / "mask.nii.gz", out / one.answer)
    done = ingest(out, quick, home)
    after, labels = open_dataset(quick, home)
    assert done.notes[0].startswith("2 of the 3 images") and not done.refused
    assert sorted(labels.entries) == sorted(one.subject_id for one in handed[:2])
    assert after.subjects == before.subjects and after.sources == before.sources  # groups and splits as they were
    assert pretrain_key(Store(home), quick, after.contract, after.subjects) == key and pretrain(quick, home).cached
    assert ingest(out, quick, home).labels == done.labels and ingest(heads, quick, home).labels == done.labels

    again = next_groups(quick, home, 8)
    assert again.labelled == 2
    assert not {s.subject_id for _, subjects, _ in again.choices for s in subjects} & labels.entries.keys()
    model = finetune(quick, home, encoder=encoder.folder, label_budget=2)
    lineage = json.loads((model.folder / "model.json").read_text())["lineage"]
    assert len(lineage["label_groups"]) == 2

    tags = {"weights_sha256": json.loads((model.folder / "model.json").read_text())["sha256"]}
    uri = register_model(home, "brain-tumor", model.folder, run_id=None, alias="challenger", tags=tags, description="")
    hand_out(next_groups(quick, home, 1), quick, home, tmp_path / "next")
    assert f"Drafts are by the registered model {uri}" in (tmp_path / "next" / README).read_text()


def test_ingest__a_corrected_answer_replaces_the_first(heads: Path, quick: Recipe, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "todo"
    ingest(heads, quick, home)
    [one] = hand_out(next_groups(quick, home, 1), quick, home, out)
    answer = nibabel.load(heads / one.case / "flair.nii.gz")
    mask = np.zeros(answer.shape, np.uint8)
    for size in (4, 6):
        mask[20 : 20 + size, 20:24, 4:6] = 1
        nibabel.save(nibabel.Nifti1Image(mask, answer.affine), out / one.answer)
        ingest(out, quick, home)
        labels = open_dataset(quick, home)[1]
        share = Store(home).facts("label", labels.entries[one.subject_id])["class_fractions"][0]
        assert share == pytest.approx(mask.sum() / mask.size, abs=1e-6)


def test_ingest__an_answer_on_another_grid__refused_with_both(heads: Path, quick: Recipe, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "todo"
    ingest(heads, quick, home)
    cut, moved = hand_out(next_groups(quick, home, 2), quick, home, out)
    for one, change in (
        (cut, lambda image: image.slicer[:, :, :-2]),
        (moved, lambda image: nibabel.Nifti1Image(image.dataobj, image.affine + np.diag([0.1, 0, 0, 0]))),
    ):
        image = nibabel.load(heads / one.case / "flair.nii.gz")
        mask = nibabel.Nifti1Image(np.ones(image.shape, np.uint8), image.affine)
        nibabel.save(change(mask), out / one.answer)
    done = ingest(out, quick, home)
    reasons = {Path(path).parent.name: reason for path, reason in done.refused}
    assert "label has" in reasons[cut.case] and "mm away from its image" in reasons[moved.case]
    for reason in reasons.values():
        assert reason.count("voxels with affine (") == 2
    assert not open_dataset(quick, home)[1].entries


def test_ingest__an_image_that_was_changed_in_the_folder__refused(heads: Path, quick: Recipe, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "todo"
    ingest(heads, quick, home)
    [one] = hand_out(next_groups(quick, home, 1), quick, home, out)
    file = out / one.case / "flair" / "flair.nii.gz"
    image = nibabel.load(file)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine, image.header), file)
    shutil.copy(file, out / one.answer)
    done = ingest(out, quick, home)
    assert done.counts["subjects"] == 10 and "only labels are taken" in done.refused[0][1]
    with pytest.raises(NothingUsable, match="only labels are taken"):
        ingest(out, quick, tmp_path / "another_home")


def test_ingest__masks_beside_copies_in_another_archive_join_the_subjects(
    heads: Path, quick: Recipe, tmp_path: Path
) -> None:
    ingest(heads, quick, tmp_path / "home")
    before, _ = open_dataset(quick, tmp_path / "home")
    for case in ("case_001", "case_002"):  # a reader's own folder, not one that was handed out
        folder = shutil.copytree(heads / case, tmp_path / "drawn" / f"reader_{case}")
        image = nibabel.load(folder / "flair.nii.gz")
        nibabel.save(nibabel.Nifti1Image(np.ones(image.shape, np.uint8), image.affine), folder / "mask.nii.gz")
    done = ingest(tmp_path / "drawn", quick, tmp_path / "home")
    after, labels = open_dataset(quick, tmp_path / "home")
    assert (done.counts["labels"], done.refused, len(labels.entries)) == (2, [], 2)
    assert after.subjects == before.subjects
    assert sum("is in the dataset already" in record.reason for record in after.records) == 2


def test_ingest__an_empty_mask__only_where_the_head_says_so(heads: Path, quick: Recipe, tmp_path: Path) -> None:
    hippocampus = find_recipe("hippocampus")[1].changed({"data.channels": '["flair"]'})
    folder = tmp_path / "in"
    shutil.copytree(heads, folder)
    image = nibabel.load(folder / "case_000" / "flair.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), folder / "case_000/mask.nii.gz")
    assert ingest(folder, quick, tmp_path / "home").counts["labels"] == 1
    refused = ingest(folder, hippocampus, tmp_path / "home")
    assert refused.counts["labels"] == 0 and "an empty mask" in refused.refused[0][1]


def test_hand_out__nothing_is_overwritten_and_the_key_is_needed(
    heads: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    ingest(heads, quick, home)
    found = next_groups(quick, home, 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("a week of work")
    with pytest.raises(UsageError, match="nothing drawn is overwritten"):
        hand_out(found, quick, home, tmp_path / "mine")
    monkeypatch.setenv("SELFSIGHT_KEY", str(tmp_path / "other" / "key"))
    with pytest.raises(UsageError, match="where the key of their ingest is"):
        hand_out(found, quick, home, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hand_out__a_source_that_changed_since(heads: Path, quick: Recipe, tmp_path: Path) -> None:
    source = tmp_path / "ward 3: in"  # a colon that parts nothing
    shutil.copytree(heads, source)
    ingest(source, quick, tmp_path / "home")
    found = next_groups(quick, tmp_path / "home", 10)
    case = source / hand_out(found, quick, tmp_path / "home", tmp_path / "a")[0].case / "flair.nii.gz"
    others = [path for path in sorted(source.glob("*/flair.nii.gz")) if path != case]
    case.write_bytes(others[0].read_bytes())
    with pytest.raises(UsageError, match="has changed: ingest the folder again"):
        hand_out(found, quick, tmp_path / "home", tmp_path / "b")
    shutil.rmtree(case.parent)
    with pytest.raises(UsageError, match="is no longer there"):
        hand_out(found, quick, tmp_path / "home", tmp_path / "b")
    source.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="mount it, or ingest it from where it is now"):
        hand_out(found, quick, tmp_path / "home", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_loop__dicom_series_and_a_mask_on_their_grid(quick: Recipe, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "todo"
    for n in range(4):
        ids = {"PatientID": f"P^{n}", "StudyInstanceUID": f"1.{n}", "SeriesInstanceUID": f"1.{n}.1"}
        write_series(tmp_path / "pacs" / f"x{n}", blob(8, 40, 40, seed=n), **ids)
    ingest(tmp_path / "pacs", quick, home)
    before, _ = open_dataset(quick, home)
    [one] = hand_out(next_groups(quick, home, 1), quick, home, out)
    assert one.case.startswith("P^") and len(list((out / one.case / "flair").glob("*.dcm"))) == 8
    space = read_space(sorted((out / one.case / "flair").iterdir()))
    mask = np.zeros(space.shape, np.uint8)
    mask[10:14, 20:24, 3:5] = 1
    nibabel.save(nibabel.Nifti1Image(mask, space.affine), out / one.case / "draft.nii.gz")
    assert ingest(out, quick, home).counts["labels"] == 0  # still a draft
    (out / one.case / "draft.nii.gz").rename(out / one.answer)
    done = ingest(out, quick, home)
    after, labels = open_dataset(quick, home)
    assert (done.refused, list(labels.entries)) == ([], [one.subject_id])
    assert after.subjects == before.subjects


def test_loop__xrays_and_a_table_to_fill_in(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "todo"
    recipe = find_recipe("chest_xray")[1].changed({"data.max_crop": "64"})
    rows = write_archive(tmp_path / "clinic", 8)
    write_rows(tmp_path / "clinic", [{k: v for k, v in row.items() if k != "finding_labels"} for row in rows])
    ingest(tmp_path / "clinic", recipe, home)
    before, none = open_dataset(recipe, home)
    assert not none.entries
    handed = hand_out(next_groups(recipe, home, 2), recipe, home, out)
    table = (out / "labels.csv").read_text().splitlines()
    assert table[0] == "image,patient_id,pneumonia" and len(table) == 1 + len(handed)
    assert ingest(out, recipe, home).counts["labels"] == 0
    (out / "labels.csv").write_text("\n".join([*table[:1], table[1] + "1", *table[2:]]))
    done = ingest(out, recipe, home)
    after, labels = open_dataset(recipe, home)
    assert (done.refused, list(labels.entries)) == ([], [handed[0].subject_id])
    assert after.subjects == before.subjects and done.notes[0].startswith(f"1 of the {len(handed)} images")
    assert Store(home).facts("label", labels.entries[handed[0].subject_id]) == {"pneumonia": 1}


def test_ingest__one_patient_id_in_two_namespaces__a_warning_and_no_merge(
    heads: Path, quick: Recipe, tmp_path: Path
) -> None:
    for hospital, cases in (("a", ("case_000", "case_001")), ("b", ("case_002", "case_003"))):
        for name, case in zip(("jane_roe", f"only_{hospital}"), cases, strict=True):
            shutil.copytree(heads / case, tmp_path / hospital / name)
    assert ingest(tmp_path / "a", quick, tmp_path / "home").notes == []
    done = ingest(tmp_path / "b", quick, tmp_path / "home")
    assert done.counts["groups"] == 4
    [note] = done.notes
    assert "1 patient or drive is named (jane_roe) alike in 'b' and in 'a', and kept apart" in note
    assert "only_b" not in note and ingest(tmp_path / "a", quick, tmp_path / "home").notes
    for file in (tmp_path / "home").rglob("*.json"):
        assert "jane_roe" not in file.read_text()


def test_next_out__the_command(heads: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    ingest(heads, find_recipe("brain_tumor")[1], tmp_path / "home")
    words = ["next", "brain_tumor", "--count", "2", "--out", str(tmp_path / "todo"), "--home", str(tmp_path / "home")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert f"selfsight ingest brain_tumor {tmp_path / 'todo'}" in done.stdout
    assert len(list((tmp_path / "todo").glob("case_*/flair/flair.nii.gz"))) == 2
    assert CliRunner().invoke(app, words).exit_code == 2
