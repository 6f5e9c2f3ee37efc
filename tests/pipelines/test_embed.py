"""Embeddings: rows follow the subjects asked for, come from the store the second time, and depend on the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from domains.errors import ContractMismatch, NothingUsable
from domains.manifest import Manifest
from domains.recipe import Recipe
from domains.store import Missing, Store
from pipelines import embed
from pipelines.checkpoint import write_model
from pipelines.dataset import open_dataset
from pipelines.embed import embeddings, pool
from pipelines.ingest import ingest
from pipelines.models import new_encoder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    from domains.domain import find_recipe

    folder = tmp_path_factory.mktemp("home")
    ingest(archive, find_recipe("brain_tumor")[1], folder)
    return folder


@pytest.fixture(autouse=True)
def two_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "CROPS", 2)


def an_encoder(folder: Path, recipe: Recipe, manifest: Manifest, seed: int) -> Path:
    torch.manual_seed(seed)
    tensors = {f"encoder.{n}": t for n, t in new_encoder(recipe, manifest.contract).state_dict().items()}
    info = {"recipe": recipe.model_dump(mode="json"), "contract": manifest.contract.model_dump(mode="json")}
    write_model(folder, tensors, {"kind": "encoder", "lineage": {}, **info})
    return folder


def test_embeddings__rows_follow_the_subjects_and_the_second_call_is_a_hit(home, quick):
    manifest, _ = open_dataset(quick, home)
    subjects = manifest.subjects[:3]
    rows = embeddings(None, home, quick, manifest, subjects)
    assert rows.dtype == np.float32 and len(rows) == 3 and len(np.unique(rows, axis=0)) == 3
    with Store.only_looking():
        again = embeddings(None, home, quick, manifest, subjects[::-1])
    assert np.array_equal(again, rows[::-1])


def test_embeddings__a_row_does_not_depend_on_the_other_subjects(home, quick):
    manifest, _ = open_dataset(quick, home)
    together = embeddings(None, home, quick, manifest, manifest.subjects[:3])
    alone = embeddings(None, home, quick, manifest, manifest.subjects[1:2])
    assert np.array_equal(alone[0], together[1])


def test_embeddings__other_weights_are_other_rows_and_another_entry(home, quick, tmp_path):
    manifest, _ = open_dataset(quick, home)
    subjects = manifest.subjects[:2]
    one = embeddings(an_encoder(tmp_path / "1", quick, manifest, 1), home, quick, manifest, subjects)
    other = an_encoder(tmp_path / "2", quick, manifest, 2)
    with Store.only_looking(), pytest.raises(Missing):
        embeddings(other, home, quick, manifest, subjects)
    assert not np.allclose(one, embeddings(other, home, quick, manifest, subjects))


def test_embeddings__random_weights_come_from_the_recipes_seed(home, quick):
    manifest, _ = open_dataset(quick, home)
    subjects = manifest.subjects[:2]
    first = embeddings(None, home, quick, manifest, subjects)
    assert not np.allclose(first, embeddings(None, home, quick.changed({"seed": "1"}), manifest, subjects))


def test_embeddings__other_preprocessing_and_no_subjects_are_refused(home, quick, tmp_path):
    manifest, _ = open_dataset(quick, home)
    rules = {**manifest.contract.rules, "orientation": "LPS"}
    foreign = manifest.model_copy(update={"contract": manifest.contract.model_copy(update={"rules": rules})})
    with pytest.raises(ContractMismatch, match="orientation"):
        embeddings(an_encoder(tmp_path / "1", quick, foreign, 1), home, quick, manifest, manifest.subjects)
    with pytest.raises(NothingUsable):
        embeddings(None, home, quick, manifest, ())


def test_pool__means_and_deviations_of_the_two_coarsest_maps():
    fine, middle, coarse = torch.full((2, 1, 8, 8), 9.0), torch.ones(2, 1, 4, 4), torch.tensor([[[[2.0]]], [[[4.0]]]])
    assert pool([fine, middle, coarse]).tolist() == [1.0, 3.0, 0.0, 1.0]
