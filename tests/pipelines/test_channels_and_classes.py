"""Several channels, some missing, and several classes: through every verb, from files to named figures and masks."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from domains.manifest import read_manifest
from domains.medical.layout import scan
from pipelines.evaluate import evaluate
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.predict import predict
from pipelines.pretrain import pretrain
from tests.two_class_archive import RECIPE, write_archive

TINY = {"data.channels": "[flair, t1]", "objective": "mae", "data.max_crop": "64"} | {
    f"{verb}.{key}": value
    for verb in ("pretrain", "finetune")
    for key, value in (("steps", "2"), ("batch_size", "4"), ("warmup_steps", "0"))
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Home, archive, model, and its evaluation."""
    folder = tmp_path_factory.mktemp("two_classes")
    home, archive, recipe = folder / "home", folder / "archive", RECIPE.changed(TINY)
    write_archive(archive, 4)
    taken = ingest(archive, recipe, home)
    assert (taken.counts["accepted"], taken.counts["labels"], taken.counts["refused"]) == (6, 4, 0)
    encoder = pretrain(recipe, home).folder
    model = finetune(recipe, home, encoder=encoder).folder
    return home, archive, recipe, taken, model, evaluate(model, home)


def test_ingest__the_manifest_says_which_channels_are_missing(made):
    manifest = read_manifest(made[3].manifest)
    assert sorted(s.facts["missing_channels"] for s in manifest.subjects) == ["none"] * 2 + ["t1"] * 2
    assert made[3].missing_channels == {"t1": 2}
    assert manifest.contract.in_channels == 6 and manifest.contract.num_classes == 3


def test_evaluate__figures_of_each_class_by_its_name(made):
    metrics = made[5].metrics
    for figure in ("dice", "hd95", "nsd", "lesion_sensitivity", "false_positives", "volume_ml"):
        assert {figure, f"{figure}_core", f"{figure}_edema"} <= set(metrics), figure
    assert set(made[5].result["trivial"]["metrics"]) == set(metrics)
    assert not {f"{figure}_{k}" for figure in ("dice", "hd95", "nsd") for k in (1, 2)} & set(metrics)


def test_predict__a_patient_without_the_optional_channel(made, tmp_path):
    home, archive, recipe, _, model, _ = made
    lone = archive / "case_000"
    assert [list(c.images) for c in scan(lone, recipe).candidates] == [["flair"]]
    for output in predict(model, [lone, lone / "flair.nii.gz"], tmp_path, home):
        mask, _, result = (Path(file) for file in output["files"][:3])
        assert nib.load(mask).shape == nib.load(lone / "flair.nii.gz").shape
        assert set(np.unique(np.asarray(nib.load(mask).dataobj))) <= {0, 1, 2}
        classes = json.loads(result.read_text())["classes"]
        assert [one["name"] for one in classes.values()] == ["core", "edema"]


@pytest.mark.parametrize("objective", ["simclr", "proposals", "anomaly_synthesis"])
def test_pretrain__other_objectives_take_missing_channels(made, objective):
    home, _, recipe = made[:3]
    outcome = pretrain(recipe.changed({"objective": objective}), home).outcome
    assert outcome["steps"] == 2 and np.isfinite(outcome["last_loss"])


def test_finetune__proposals_leave_no_model_of_several_classes(made):
    from domains.errors import UsageError

    home, _, recipe = made[:3]
    recipe = recipe.changed({"objective": "proposals"})
    encoder = pretrain(recipe, home).folder
    with pytest.raises(UsageError, match="zero labels need an encoder with a decoder"):
        finetune(recipe, home, encoder=encoder, label_budget=0)
    assert finetune(recipe, home, encoder=encoder, label_budget=1).outcome["steps"] == 2  # no self-training either
