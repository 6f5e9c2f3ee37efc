"""Continued pretraining: grown data starts from the last encoder, the same data is its answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from domains.recipe import Recipe
from domains.store import Store
from pipelines.continuing import last_encoder
from pipelines.erase import erase, plan_erasure
from pipelines.ingest import ingest
from pipelines.models import Loaded, open_model
from pipelines.pretrain import Trained, pretrain


@pytest.fixture
def growing(archive: Path, tmp_path: Path) -> tuple[Path, Path, list[Path]]:
    """A home, a source with the first half of the patients, and the others."""
    source = tmp_path / "source"
    shutil.copytree(archive, source)
    patients = sorted(path for path in source.iterdir() if path.is_dir())
    later = tmp_path / "later"
    later.mkdir()
    for patient in patients[6:]:
        shutil.move(patient, later)
    return tmp_path / "home", source, sorted(later.iterdir())


def again(source: Path, recipe: Recipe, home: Path) -> tuple[Trained, Loaded]:
    ingest(source, recipe, home)
    trained = pretrain(recipe, home, continued=True)
    return trained, open_model(trained.folder)


def test_pretrain__continued_starts_from_the_last_encoder_when_the_data_has_grown(growing, quick) -> None:
    home, source, later = growing
    still = quick.changed({"pretrain.learning_rate": "1e-12", "pretrain.weight_decay": "0", "pretrain.ema_decay": "0"})
    _, first = again(source, still, home)
    assert first.info["lineage"]["continued_from"] is None
    unchanged, same = again(source, still, home)
    assert unchanged.cached and same.folder == first.folder
    shutil.move(later[0], source)
    grown, second = again(source, still, home)
    assert not grown.cached and second.folder != first.folder
    assert second.info["lineage"]["continued_from_sha256"] == first.info["sha256"]
    for name, tensor in first.tensors.items():  # steps of next to no length show where it began
        assert torch.allclose(tensor, second.tensors[name], atol=1e-6), name
    assert set(first.info["lineage"]["pretrain_groups"]) < set(second.info["lineage"]["pretrain_groups"])
    assert again(source, still, home)[0].cached and again(source, still, home)[1].folder == second.folder
    assert pretrain(still, home).folder not in (first.folder, second.folder)  # not asked to continue: from scratch


def test_pretrain__continued_never_from_an_encoder_that_saw_an_erased_group(growing, quick) -> None:
    home, source, later = growing
    _, first = again(source, quick, home)
    seen = first.info["lineage"]["pretrain_groups"][0]
    erase(plan_erasure(seen, home), home)
    shutil.move(later[0], source)
    _, second = again(source, quick, home)
    assert second.info["lineage"]["continued_from"] is None
    assert seen not in second.info["lineage"]["pretrain_groups"]


def test_last_encoder__of_the_same_line_only_and_of_no_group_that_is_held_out(growing, quick) -> None:
    home, source, _ = growing
    _, first = again(source, quick, home)
    store, contract = Store(home), first.contract

    def last(held_out=(), **changes: str):
        recipe = quick.changed({key.replace("__", "."): value for key, value in changes.items()})
        return last_encoder(recipe, store, contract, held_out)

    assert last().folder == last(pretrain__steps="9", finetune__steps="9", seed="5").folder == first.folder
    for changes in ({"objective": "mae"}, {"size": "small"}, {"fold": "1/3"}, {"encoder": "vit"},
                    {"data__neighbours": "0"}, {"pretrain__control": "noise"}):  # fmt: skip
        assert last(**changes) is None, changes
    assert last_encoder(quick, store, contract.model_copy(update={"version": 99}), ()) is None
    assert last(held_out=first.info["lineage"]["pretrain_groups"][-1:]) is None
    shutil.rmtree(first.folder)
    assert last() is None
