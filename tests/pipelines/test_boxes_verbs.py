"""Boxes from a generated archive to a report and a prediction, by the verbs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domains.domain import find_recipe
from domains.errors import RecipeError
from domains.medical.generate import generate
from pipelines.evaluate import evaluate
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.predict import predict
from pipelines.report import write_report

SMALL = {"data.max_crop": "64", "fold": "1/2", "finetune.steps": "3", "finetune.batch_size": "2"}


@pytest.mark.slow
def test_verbs__boxes_are_learned_judged_reported_and_written(tmp_path: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    generate(source, 6, 5)
    recipe = find_recipe("tumor_boxes")[1].changed(SMALL)
    ingest(source, recipe, home)
    model = finetune(recipe, home, encoder=None)
    judged = evaluate(model.folder, home)
    result = judged.result
    assert result["primary"] == "box_map" and result["ranked_by"] == "box_iou"
    assert {"box_map", "froc", "slice_auroc"} <= set(result["pooled"]) and 0 <= result["metrics"]["box_map"][
        "mean"
    ] <= 1
    assert result["trivial"]["metrics"]["box_map"]["mean"] > result["metrics"]["box_map"]["mean"]  # three steps
    assert set(result["trivial"]["metrics"]) == set(result["metrics"])
    assert "FROC" in write_report(home, evaluation=judged.folder).read_text()
    [output] = predict(model.folder, [source / "case_000" / "flair.nii.gz"], tmp_path / "out", home)
    figures = json.loads(Path(output["files"][1]).read_text())
    assert figures["spacing"] == "known" and all(0 <= box["score"] <= 1 for box in figures["boxes"])
    flat = recipe.changed({"data.plan": "2d"})
    ingest(source, flat, tmp_path / "flat")
    with pytest.raises(RecipeError, match="boxes are found in volumes"):
        finetune(flat, tmp_path / "flat", encoder=None)
