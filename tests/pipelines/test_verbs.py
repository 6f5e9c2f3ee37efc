"""The main job as plain functions on generated heads: pretrain, finetune, evaluate, register, predict."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import onnxruntime
import pytest
import torch
from dicom_files import write_series
from nifti_files import write_nifti

from domains.errors import ContractMismatch, GateRefused, NothingUsable, SelfsightError, UsageError
from domains.recipe import Recipe
from domains.store import Store
from pipelines.evaluate import Evaluated, evaluate, interval
from pipelines.export import export
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.models import load_model, open_model
from pipelines.predict import predict
from pipelines.pretrain import Trained, pretrain
from pipelines.register import register
from pipelines.registry import resolve


@dataclass
class Done:
    home: Path
    recipe: Recipe
    encoder: Trained
    model: Trained
    evaluation: Evaluated


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Done:
    from domains.domain import find_recipe

    few = {"steps": "4", "batch_size": "2", "warmup_steps": "1", "checkpoint_every": "2"}
    changes = {f"{verb}.{key}": value for verb in ("pretrain", "finetune") for key, value in few.items()}
    recipe = find_recipe("brain_tumor")[1].changed(changes | {"objective": "mae + anomaly_synthesis"})
    home = tmp_path_factory.mktemp("home")
    ingest(archive, recipe, home)
    encoder = pretrain(recipe, home)
    model = finetune(recipe, home, encoder=encoder.folder)
    return Done(home, recipe, encoder, model, evaluate(model.folder, home))


def test_pretrain__held_out_groups_are_left_out_and_pictures_written(done: Done) -> None:
    loaded = open_model(done.encoder.folder)
    evaluated = {case["group_id"] for case in done.evaluation.result["cases"]}
    assert loaded.info["kind"] == "encoder"
    assert evaluated and not evaluated & set(loaded.info["lineage"]["pretrain_groups"])
    assert {p.name for p in done.encoder.folder.glob("*.png")} >= {"examples-mae.png", "examples-anomaly_synthesis.png"}


def test_verbs__second_time_is_a_cache_hit(done: Done) -> None:
    assert pretrain(done.recipe, done.home).cached
    assert finetune(done.recipe, done.home, encoder=done.encoder.folder).cached
    assert evaluate(done.model.folder, done.home).cached


def test_finetune__decoder_of_the_anomalies_is_kept_and_zero_labels_work(done: Done) -> None:
    assert open_model(done.model.folder).info["start"]["decoder_kept"]
    zero = finetune(done.recipe, done.home, encoder=done.encoder.folder, label_budget=0)
    start, kept = open_model(done.encoder.folder), open_model(zero.folder)
    assert kept.info["lineage"]["label_groups"] == []
    assert all((kept.tensors[name] == tensor).all() for name, tensor in start.tensors.items())
    with pytest.raises(UsageError, match="zero labels"):
        finetune(done.recipe, done.home, encoder=None, label_budget=0)


def test_finetune__label_budget_is_kept(done: Done) -> None:
    two = open_model(finetune(done.recipe, done.home, encoder=None, label_budget=2).folder)
    assert len(two.info["lineage"]["label_groups"]) == 2


def test_finetune__encoder_of_other_preprocessing__refused_with_both_sides(done: Done, archive: Path) -> None:
    other = done.recipe.changed({"data.plan": "3d"})
    ingest(archive, other, done.home)
    with pytest.raises(ContractMismatch, match=r"the data has .*the encoder has"):
        finetune(other, done.home, encoder=done.encoder.folder)


def test_finetune__encoder_of_three_slices_on_single_ones__its_input_weights_are_summed(
    done: Done, archive: Path
) -> None:
    single = done.recipe.changed({"data.neighbours": "0", "finetune.steps": "1", "finetune.warmup_steps": "0"})
    single = single.changed({"finetune.learning_rate": "1.0e-9", "finetune.weight_decay": "0"})
    ingest(archive, single, done.home)
    model = open_model(finetune(single, done.home, encoder=done.encoder.folder).folder)
    assert model.info["start"]["in_channels"] == [3, 1] and model.info["start"]["decoder_kept"]
    name = "encoder.stages.0.conv1.conv.weight"
    assert name.removeprefix("encoder.") in model.info["start"]["adapted"]
    summed = open_model(done.encoder.folder).tensors[name].sum(1, keepdim=True)
    assert np.allclose(model.tensors[name], summed, atol=1e-6)


def test_finetune__registered_encoder_on_another_archive(done: Done, tmp_path: Path) -> None:
    """The team's images have another spacing; they are prepared as the encoder's were, not as their own plan says."""
    for i in range(4):
        image = write_nifti(tmp_path / "archive" / f"p{i}" / "flair.nii.gz", seed=i)
        mask = np.zeros((48, 48, 12), np.uint8)
        mask[20:28, 20:28, 5:7] = 1
        nibabel.save(nibabel.Nifti1Image(mask, nibabel.load(image).affine), image.with_name("mask.nii.gz"))
    encoder = open_model(done.encoder.folder)
    home = tmp_path / "home"
    ingest(tmp_path / "archive", done.recipe, home, contract=encoder.contract)
    model = open_model(finetune(done.recipe, home, encoder=done.encoder.folder).folder)
    assert model.contract.input_rules() == encoder.contract.input_rules()
    assert model.info["start"]["decoder_kept"]


def test_evaluate__result_says_everything(done: Done) -> None:
    result = done.evaluation.result
    dice = result["metrics"]["dice"]
    assert 0 <= dice["low"] <= dice["mean"] <= dice["high"] <= 1
    assert dice["n"] == len(result["cases"]) > 0
    assert set(result["trivial"]["metrics"]) == set(result["metrics"])
    assert {"froc", "slice_auroc", "box_map"} <= set(result["pooled"]) and "slice" in result["summary"]["notes"][0]
    for case in result["cases"]:
        assert (done.evaluation.folder / case["picture"]).read_bytes().startswith(b"\x89PNG")
    json.dumps(result, allow_nan=False)


def test_evaluate__folder_that_was_trained_on__refused(done: Done, archive: Path) -> None:
    with pytest.raises(GateRefused, match="leak"):
        evaluate(done.model.folder, done.home, source=archive)


def test_evaluate__other_hospital__every_case(done: Done, tmp_path: Path) -> None:
    domain = open_model(done.model.folder).domain
    assert domain.generate is not None
    domain.generate(tmp_path / "other_hospital", 3, 77)
    result = evaluate(done.model.folder, done.home, source=tmp_path / "other_hospital").result
    assert (result["kind"], len(result["cases"])) == ("external", 3)


def test_evaluate__spacing_known_of_some_cases_only__volumes_in_two_units(done: Done, tmp_path: Path) -> None:
    domain = open_model(done.model.folder).domain
    assert domain.generate is not None
    domain.generate(tmp_path / "mixed", 3, 78)
    for name in ("flair", "mask"):
        file = tmp_path / "mixed" / "case_001" / f"{name}.nii.gz"
        image = nibabel.load(file)
        image.header.set_xyzt_units("unknown")
        nibabel.save(image, file)
    result = evaluate(done.model.folder, done.home, source=tmp_path / "mixed").result
    for metrics in (result["metrics"], result["trivial"]["metrics"]):
        assert [metrics[name]["n"] for name in ("dice", "volume_ml", "volume_voxels")] == [3, 2, 1]
    assert result["summary"]["unit"] == "mm and voxel"


def test_evaluate__an_encoder__usage_error(done: Done) -> None:
    with pytest.raises((UsageError, KeyError), match="encoder"):
        load_model(open_model(done.encoder.folder))


def test_register__model_and_encoder_with_alias_and_lineage(done: Done) -> None:
    registered = register(done.evaluation.folder, done.home)
    assert registered.model == "models:/brain-tumor/1"
    assert registered.encoder == "models:/brain-tumor-encoder/1"
    assert register(done.evaluation.folder, done.home) == registered
    for uri in ("models:/brain-tumor@challenger", registered.model):
        folder = resolve(done.home, uri)
        assert open_model(folder).info["sha256"] == open_model(done.model.folder).info["sha256"]


def test_predict__mask_in_the_inputs_own_geometry(done: Done, archive: Path, tmp_path: Path) -> None:
    image = sorted(archive.glob("*/flair.nii.gz"))[0]
    before = {p for p in done.home.rglob("*") if p.is_file()}
    outputs = predict(done.model.folder, [image], tmp_path / "out", done.home)
    files = [Path(file) for file in outputs[0]["files"]]
    mask = nibabel.load(next(f for f in files if f.name.endswith(".nii.gz")))
    source = nibabel.load(image)
    assert mask.shape == source.shape
    assert np.array_equal(mask.affine, source.affine)
    assert any(f.suffix == ".png" for f in files)
    assert {p for p in done.home.rglob("*") if p.is_file()} == before, "prediction left something in the home"


def test_predict__bad_input_beside_a_good_one(done: Done, archive: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    outputs = predict(done.model.folder, [bad, sorted(archive.glob("*/flair.nii.gz"))[0]], tmp_path / "out", done.home)
    assert ["refused" in o for o in outputs] == [True, False]
    with pytest.raises(NothingUsable):
        predict(done.model.folder, [bad], tmp_path / "out", done.home)


def test_predict__folder__what_its_scan_refuses_is_listed_with_why(
    done: Done, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = sorted(archive.glob("*/flair.nii.gz"))[0].parent
    shutil.copytree(patient, tmp_path / "patients" / patient.name)
    odd = tmp_path / "patients" / "odd"
    odd.mkdir()
    paths = write_series(odd, slices=4)
    paths[1].unlink()  # a gap: its series is no volume
    outputs = predict(done.model.folder, [tmp_path / "patients"], tmp_path / "out", done.home)
    refused = {Path(one["input"]).name: one["refused"] for one in outputs if "refused" in one}
    assert [("files" in one) for one in outputs].count(True) == 1
    assert set(refused) == {path.name for path in odd.iterdir()} and all(refused.values())
    assert not list((tmp_path / "out").rglob("*mask*"))


def test_export__onnx_alone_gives_the_models_numbers_and_the_card_its_figures(done: Done, tmp_path: Path) -> None:
    answer = export(done.model.folder, tmp_path / "out", done.home)
    assert answer["parity"] < 1e-4 and answer["evaluations"] >= 1
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    loaded = open_model(done.model.folder)
    crops = torch.randn(5, loaded.contract.in_channels, *loaded.contract.crop_shape)
    assert about["input"]["shape"] == ["batch", *crops.shape[1:]] and about["classes"] == ["tumor"]
    with torch.no_grad():
        wanted = load_model(loaded)(crops)
    [given] = session.run(["logits"], {"crops": crops.numpy()})
    torch.testing.assert_close(torch.from_numpy(given), wanted, rtol=1e-4, atol=1e-4)
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    dice = json.loads((done.evaluation.folder / "evaluation.json").read_text())["metrics"]["dice"]
    assert f"| dice | {dice['mean']:.3f} (" in card and "not a medical device" in card
    assert about["sha256"]["model.onnx"] in card and "label_groups" not in card
    assert f"{len(done.evaluation.result['cases'])} cases of" in card and "## Licence" in card
    statement = next(iter(loaded.info["lineage"]["sources"].values()))
    assert statement in card
    with pytest.raises(UsageError, match="is not empty"):
        export(done.model.folder, tmp_path / "out", done.home)


def test_export__numbers_that_differ_leave_nothing_behind(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_written(network: object, crops: object, names: object, path: Path) -> None:
        path.write_bytes(b"a graph")

    monkeypatch.setattr("pipelines.export._write_graph", half_written)
    monkeypatch.setattr("pipelines.export._parity", lambda *_: float("nan"))
    (tmp_path / "out").mkdir()
    with pytest.raises(SelfsightError, match="away from the model"):
        export(done.model.folder, tmp_path / "out", done.home)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_export__an_encoder_gives_its_feature_maps(done: Done, tmp_path: Path) -> None:
    export(done.encoder.folder, tmp_path / "out", done.home)
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["outputs"] == [f"features_{n}" for n in range(len(about["contract"]["pooling"]))]
    assert "Not evaluated." in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_store__keys_of_training_do_not_depend_on_checkpoint_interval(done: Done) -> None:
    assert pretrain(done.recipe.changed({"pretrain.checkpoint_every": "3"}), done.home).folder == done.encoder.folder
    assert Store(done.home).get("pretrain", done.encoder.folder.name) is not None


def test_pretrain__probes_look_at_labels_say_so_and_change_neither_weights_nor_key(done: Done, tmp_path: Path) -> None:
    asked = done.recipe.changed({"pretrain.probe_every": "2", "pretrain.stop_on_collapse": "true"})
    assert pretrain(asked, done.home).folder == done.encoder.folder
    home = tmp_path / "home"
    shutil.copytree(done.home, home, ignore=shutil.ignore_patterns("pretrain", "finetune", "runs", "mlflow*"))
    plain = open_model(done.encoder.folder)
    again = pretrain(asked, home)
    mine = open_model(again.folder)
    assert not again.cached and again.folder.name == done.encoder.folder.name
    assert all((mine.tensors[name] == tensor).all() for name, tensor in plain.tensors.items())
    lineage = mine.info["lineage"]
    assert plain.info["lineage"]["probed_groups"] == []
    assert lineage["probed_groups"] and set(lineage["probed_groups"]) <= set(lineage["pretrain_groups"])
    journal = next((home / "runs").glob("pretrain-*/journal.jsonl"))
    written = [json.loads(line) for line in journal.read_text().splitlines()]
    assert any("labels were looked at" in r.get("text", "") for r in written)
    probed = {r["step"]: r["values"] for r in written if "probe/linear" in r.get("values", {})}
    assert set(probed) == {0, 2, 4} and all(0 <= v <= 1 for values in probed.values() for v in values.values())


def test_interval__covers_the_mean_and_resamples_groups() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, 100)
    alone = interval(list(values), [f"g{i}" for i in range(100)])
    assert alone["low"] < alone["mean"] < alone["high"]
    assert alone["high"] - alone["low"] == pytest.approx(2 * 1.96 * 0.1 / 10, rel=0.3)
    repeated = interval(list(np.repeat(values[:10], 10)), [f"g{i // 10}" for i in range(100)])
    assert repeated["high"] - repeated["low"] > 2 * (alone["high"] - alone["low"])
    assert np.isnan(interval([float("nan")], ["g"])["mean"])
    assert np.isnan(interval([0.2, 0.4], ["g", "g"])["low"])
