"""A model of other data as an arm of a study: without labels, with labels, and refused where it has seen too much."""

from __future__ import annotations

from pathlib import Path

import pytest
from xray_files import write_archive

from domains.domain import find_recipe
from domains.errors import GateRefused
from domains.recipe import Recipe
from pipelines import study, study_report
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.models import open_model
from pipelines.study_plan import Plan

ARMS = ("scratch", "given weights")


def model_of(folder: Path, seed: int, recipe: Recipe, like: Path | None = None) -> tuple[Path, Path]:
    """A home and a model trained on a generated archive in it, prepared as that of the model `like`."""
    write_archive(folder / f"clinic{seed}", 8, seed)
    ingest(folder / f"clinic{seed}", recipe, folder / "home", contract=open_model(like).contract if like else None)
    return folder / "home", finetune(recipe, folder / "home", encoder=None).folder


def test_study__a_model_of_other_data__is_tried_without_labels_and_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_report, "MOST_CASES", 1)
    few = {"finetune.steps": "1", "finetune.batch_size": "4", "finetune.warmup_steps": "1", "data.max_crop": "64"}
    recipe = find_recipe("chest_xray")[1].changed(few)
    _, elsewhere = model_of(tmp_path / "other", 1, recipe)
    home, own = model_of(tmp_path / "here", 0, recipe, elsewhere)
    result = study.study(recipe, home, Plan(label_budgets=(0, 2), folds=2, arms=ARMS, given=elsewhere)).result
    rows = {(row["arm"], row["label_budget"]) for row in result["table"]}
    assert rows == {("scratch", 2), ("given weights", 0), ("given weights", 2)}
    assert result["main_arm"] == "given weights"
    told = next(arm["what"] for arm in result["arms"] if arm["name"] == "given weights")
    assert "chest_xray model" in told and "sha256" in told
    with pytest.raises(GateRefused, match="leak"):
        study.study(recipe, home, Plan(label_budgets=(2,), folds=2, arms=ARMS, given=own))
