"""A label budget of the road scene counts frames, while whole drives are held out."""

from __future__ import annotations

from pathlib import Path

from domains.domain import find_recipe
from domains.driving.generate import write_frames
from domains.splits import split
from pipelines.checkpoint import read_model
from pipelines.dataset import open_dataset
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.study_plan import Plan, plan_cells

SMALL = {"data.height": "48", "data.width": "64", "data.crop_height": "32", "data.crop_width": "32"}
FEW = {"finetune.steps": "1", "finetune.batch_size": "2", "finetune.warmup_steps": "1"}


def test_label_budget__three_drives__counts_frames(tmp_path: Path) -> None:
    _, recipe = find_recipe("road_scene")
    write_frames(tmp_path / "drives", 30, 0)
    recipe = recipe.changed(SMALL | FEW | {"fold": "1/3"})
    ingest(tmp_path / "drives", recipe, tmp_path)
    manifest, labels = open_dataset(recipe, tmp_path)
    held_out = {s.group_id for s in split(manifest.subjects, recipe.fold).test}
    assert len({s.group_id for s in manifest.subjects}) == 3 and len(held_out) == 1

    asked = Plan(label_budgets=(5, 20, 21), arms=("scratch",))
    assert {cell.label_budget for cell in plan_cells(recipe, tmp_path, manifest, labels, asked)} == {5, 20}

    lineage = read_model(finetune(recipe, tmp_path, encoder=None, label_budget=5).folder)[1]["lineage"]
    assert len(lineage["label_digests"]) == 5
    assert not set(lineage["label_groups"]) & held_out
