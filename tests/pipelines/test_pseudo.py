"""Masks that nobody drew are written once, and taught subjects count as seen but not as labelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.domain import find_recipe, load
from domains.errors import UsageError
from domains.recipe import Recipe
from domains.store import Store
from pipelines import pseudo
from pipelines.dataset import open_dataset
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.models import open_model, predictor
from pipelines.pretrain import pretrain


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> Path:
    home = tmp_path_factory.mktemp("pseudo")
    generate = load("medical").generate
    assert generate is not None
    generate(home / "raw", 6, 0)
    ingest(home / "raw", recipe, home)
    return home


@pytest.fixture(scope="module")
def recipe(few_steps: Recipe) -> Recipe:
    changes = {"objective": "proposals", "fold": "1/2", "finetune.self_training": "3"}
    return few_steps.changed(changes | {"finetune.steps": "2", "pretrain.steps": "2"})


def test_proposals__same_folders_again_and_no_label_read(home: Path, recipe: Recipe) -> None:
    manifest, _ = open_dataset(recipe, home)
    first = pseudo.proposals(Store(home), recipe, manifest.contract, manifest.subjects)
    with Store.only_looking():
        assert pseudo.proposals(Store(home), recipe, manifest.contract, manifest.subjects) == first
    assert len(set(first)) == len(manifest.subjects)


def test_proposals__head_without_any__refused(home: Path) -> None:
    recipe = find_recipe("hippocampus")[1]
    manifest, _ = open_dataset(find_recipe("brain_tumor")[1], home)
    with pytest.raises(UsageError, match="hippocampus cannot"):
        pseudo.proposals(Store(home), recipe, manifest.contract, manifest.subjects)


def test_finetune__self_training__the_others_count_as_seen_without_labels(home: Path, recipe: Recipe) -> None:
    encoder = pretrain(recipe, home).folder
    taught = open_model(finetune(recipe, home, encoder=encoder, label_budget=1).folder).info["lineage"]
    alone = recipe.changed({"finetune.self_training": "0"})
    plain = open_model(finetune(alone, home, encoder=encoder, label_budget=1).folder).info
    assert len(taught["label_groups"]) == len(plain["lineage"]["label_groups"]) == 1
    assert len(taught["pretrain_groups"]) == 3  # all development groups, by pretraining too
    assert finetune(recipe, home, encoder=encoder, label_budget=1).cached


def test_finetune__teacher_from_scratch__its_subjects_are_in_the_lineage(home: Path, recipe: Recipe) -> None:
    scratch = finetune(recipe, home, encoder=None, label_budget=1)
    assert open_model(scratch.folder).info["lineage"]["pretrain_groups"] == []
    student = open_model(finetune(recipe, home, encoder=None, label_budget=1, teacher=scratch.folder).folder)
    assert len(student.info["lineage"]["pretrain_groups"]) == 2
    assert student.folder != scratch.folder


def test_finetune__frozen_encoder__only_the_decoder_changes(home: Path, recipe: Recipe) -> None:
    frozen = recipe.changed({"finetune.encoder": "frozen", "finetune.self_training": "0"})
    encoder = open_model(pretrain(recipe, home).folder)
    model = open_model(finetune(frozen, home, encoder=encoder.folder, label_budget=1).folder)
    assert all(bool((model.part("encoder")[n] == t).all()) for n, t in encoder.part("encoder").items())
    assert any(bool((model.part("decoder")[n] != t).any()) for n, t in encoder.part("decoder").items())


def test_finetune__probe__one_linear_layer_learns_on_the_frozen_encoder(home: Path, recipe: Recipe) -> None:
    encoder = open_model(pretrain(recipe, home).folder)
    trained = finetune(recipe.changed({"finetune.encoder": "probe"}), home, encoder=encoder.folder, label_budget=1)
    model = open_model(trained.folder)
    assert all(bool((model.part("encoder")[n] == t).all()) for n, t in encoder.part("encoder").items())
    assert set(model.part("decoder")) == {f"logits.{n}.weight" for n in range(len(model.contract.pooling))} | {
        "logits.0.bias"
    }
    assert not model.info["start"]["decoder_kept"]  # nor are there masks of a zero-label model to learn from
    manifest, _ = open_dataset(recipe, home)
    entry = Store(home).path("ingest", manifest.subjects[0].entry)
    assert predictor(model)(entry).shape[0] == model.contract.num_classes


def test_finetune__from_a_model__its_labels_count_too(home: Path, recipe: Recipe) -> None:
    first = finetune(recipe, home, encoder=None, label_budget=2)
    manifest, _ = open_dataset(recipe, home)
    learned = set(open_model(first.folder).info["lineage"]["label_groups"])
    one = [group for group in sorted(learned)][:1]
    for further in ({"encoder": first.folder}, {"encoder": None, "teacher": first.folder}):
        lineage = open_model(finetune(recipe, home, label_groups=one, **further).folder).info["lineage"]
        assert set(lineage["label_groups"]) == learned
        seen = {s.content_digest for s in manifest.subjects if s.group_id in learned}
        assert set(lineage["label_digests"]) == seen
