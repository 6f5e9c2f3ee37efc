"""The study's report: every figure in its cell, nothing undefined hidden, escaped, the same twice, real pictures."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from html_page import HOSTILE, Page
from study_made import MEANS, a_hostile_study, a_study, row_of, spread_of

from domains.domain import find_recipe
from domains.manifest import read_manifest
from domains.store import Store
from pipelines.checkpoint import write_model
from pipelines.dataset import open_dataset
from pipelines.ingest import ingest
from pipelines.models import new_model
from pipelines.study_figures import spread
from pipelines.study_report import Overlays, extremes, paired, write_study
from pipelines.study_table import as_csv, as_markdown, lines


def markdown_cells(study: dict[str, Any]) -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in as_markdown(study).splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_as_markdown__figures_are_in_their_cells():
    cells = markdown_cells(a_study())
    assert list(cells) == ["arm", "---", "threshold (no training)", "scratch", "**anomalies**", "noise (control)"]
    assert cells["arm"] == ["0 labels", "3 labels", "10 labels"]
    assert cells["threshold (no training)"] == ["0.440 (0.38-0.50)"] * 3
    assert cells["scratch"] == ["–", "0.500 (0.44-0.56)", "0.600 (0.54-0.66)"]
    assert cells["**anomalies**"] == [
        "0.460 (0.40-0.52); +0.020 (-0.040 to 0.080) to threshold",
        "0.583 (0.52-0.64); **+0.083** (0.023 to 0.143)",
        "0.610 (0.55-0.67); +0.010 (-0.050 to 0.070)",
    ]


def test_as_markdown__undefined_figures_and_intervals_are_said():
    study = a_study()
    row_of(study, "scratch", 3).update(mean=None, low=None, high=None, n=0)
    row_of(study, "scratch", 10).update(low=None, high=None, n=7, note="one fold | only")
    row_of(study, "anomalies", 3)["against_scratch"] = {"mean": None, "low": None, "high": None, "n": 0}
    row_of(study, "anomalies", 10)["against_scratch"].update(low=None, high=None)
    cells = markdown_cells(study)
    assert cells["scratch"] == ["–", "undefined", "0.600 (no interval, n = 7) [1]"]
    assert cells["**anomalies**"][1:] == ["0.583 (0.52-0.64)", "0.610 (0.55-0.67); +0.010 (no interval)"]
    assert "[1] one fold \\| only" in as_markdown(study)


def test_lines__a_competitor_without_training_is_level_and_kept_apart_from_zero_labels():
    found = {line.arm["name"]: line for line in lines(a_study())}
    assert found["threshold"].level and not found["anomalies"].level
    assert {cell.difference for cell in found["threshold"].cells} == {""}


def test_as_csv__reads_back():
    study = a_study()
    row_of(study, "anomalies", 0).update(low=None, note='a "quoted", note\nin two lines')
    read = list(csv.DictReader(io.StringIO(as_csv(study))))
    assert [(r["arm"], r["label_budget"]) for r in read] == [(a, "" if b is None else str(b)) for a, b in MEANS]
    assert [float(r["mean"]) for r in read] == list(MEANS.values())
    zero = read[3]
    assert zero["low"] == "" and zero["note"] == 'a "quoted", note\nin two lines' and zero["kind"] == "pretrained"
    assert zero["against_scratch_mean"] == "" and float(zero["against_trivial_mean"]) == 0.46 - 0.44


def test_paired__smallest_budget_that_both_have_and_undefined_scores_left_out():
    study = a_study()
    study["cases"] = [c | {"score": None} if c["subject_id"] == "subject4" else c for c in study["cases"]]
    pairs = paired(study)
    assert sorted(pairs) == [3, 10] and len(pairs[3]) == 7
    gains, losses = extremes(pairs[3])
    assert [p.after["subject_id"] for p in gains] == ["subject0", "subject1", "subject2"]
    assert [p.after["subject_id"] for p in losses] == ["subject7", "subject6", "subject5"]


def test_paired__judged_by_every_fold_is_the_mean():
    study = a_study()
    again = [c | {"score": 0.0, "fold": "other"} for c in study["cases"]]
    pairs = paired(study | {"cases": study["cases"] + again})[3]
    assert (pairs[0].scratch, pairs[0].pretrained) == (0.25, 0.4) and pairs[0].after["fold"] == "1/3"
    assert "each its mean over models in 3 folds" in as_markdown(study | {"cases": study["cases"] + again})
    assert "each tested once in 3 folds" in as_markdown(study)


def test_write_study__one_arm_without_training_and_nan(tmp_path):
    """What is not a number becomes null, and a table without budgets has one column."""
    study = a_study(label_budgets=[], main_arm="", worth=[], cells=[], meter=["with 3 labels, go on"])
    study["arms"] = [arm for arm in study["arms"] if arm["name"] == "threshold"]
    study["table"] = [row_of(study, "threshold", None) | {"low": float("nan"), "high": float("nan")}]
    study["cases"] = [case for case in study["cases"] if case["arm"] == "threshold"]
    write_study(study, tmp_path, tmp_path)
    assert json.loads((tmp_path / "study.json").read_text())["table"][0]["low"] is None
    assert "| threshold (no training) | 0.440 (no interval) |" in (tmp_path / "table.md").read_text()
    assert "With 3 labels, go on" in (tmp_path / "report.html").read_text()


def test_extremes__no_gain_is_shown_as_a_loss():
    pairs = paired(a_study())[3][:2]
    gains, losses = extremes(pairs)
    assert len(gains) == 2 and losses == []


def test_spread__apart_in_order_and_not_further_than_needed():
    heights = spread([0.5, 0.51, 0.9, 0.5], 0.1)
    ordered = sorted(heights)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(ordered))
    assert heights[2] == pytest.approx(0.9) and heights[0] < heights[3] < heights[1]
    assert sum(heights) == pytest.approx(0.5 + 0.51 + 0.9 + 0.5)
    assert spread([], 0.1) == []


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """File names and folder of a study in whose home nothing is left."""
    folder = tmp_path_factory.mktemp("study")
    return write_study(a_study(), folder / "home", folder / "out"), folder / "out"


def test_write_study__files_page_and_study_read_back(written):
    files, out = written
    assert set(files) == {"study", "csv", "markdown", "curve", "scatter", "report"}
    assert sorted(p.name for p in out.iterdir()) == sorted(files.values())
    assert json.loads((out / "study.json").read_text()) == a_study()
    page = Page((out / "report.html").read_text())
    text = re.sub(r"\s+", " ", page.text)
    assert page.values("data-arm") == ["threshold", "scratch", "anomalies", "noise"]
    order = [
        "Pretraining is worth four labels.", "Each figure: mean Dice", "Labels against result",
        "Above the diagonal", "No label validates.", "helped most", "hurt most", "Eight is few.",
    ]  # fmt: skip
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "1 h 2 min" in text and "selfsight study brain_tumor" in text and "Not a medical device" in text


def test_write_study__models_that_are_gone_are_said(written):
    page = Page((written[1] / "report.html").read_text())
    assert len(page.values("data-subject")) == 6
    assert page.text.count("The model is no longer in the store.") == 12
    assert not [alt for alt in page.values("alt") if alt.startswith("Overlay")]


def test_write_study__escaped_and_self_contained(tmp_path):
    write_study(a_hostile_study(), tmp_path, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert HOSTILE not in text and page.text.count(HOSTILE) > 8
    assert "<script" not in (tmp_path / "table.md").read_text()
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
    assert set(page.values("href")) <= {"#" + name for name in page.values("id")}


def test_write_study__same_study_same_bytes(written, tmp_path):
    write_study(a_study(), tmp_path, tmp_path)
    for file in written[1].iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


def test_write_study__without_scratch_or_a_single_defined_figure(tmp_path):
    study = a_study(warnings=[], worth=[], accounting=[])
    study["arms"] = [arm for arm in study["arms"] if arm["kind"] != "scratch"]
    undefined = {"mean": None, "low": None, "high": None, "n": 0}
    study["table"] = [row | undefined for row in study["table"] if row["arm"] != "scratch"]
    files = write_study(study, tmp_path, tmp_path)
    assert "scatter" not in files and (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    text = re.sub(r"\s+", " ", Page((tmp_path / "report.html").read_text()).text)
    assert "there is nothing to compare" in text and "undefined" in text


def test_overlays__drawn_by_the_cells_model_and_left_out_with_a_reason(tmp_path, archive: Path):
    """An untrained model stands for a trained one: only the way from a case to its picture is tested."""
    _, recipe = find_recipe("brain_tumor")
    ingest(archive, recipe, tmp_path)
    store, (manifest, labels) = Store(tmp_path), open_dataset(recipe, tmp_path)
    lineage = {"manifest": store.key("manifest", manifest.digest), "labels": store.key("labels", labels.digest)}
    assert read_manifest(store.path("manifest", lineage["manifest"])) == manifest
    contract = manifest.contract
    info = {"kind": "model", "recipe": recipe.model_dump(mode="json"), "contract": contract.model_dump(mode="json"),
            "lineage": lineage}  # fmt: skip
    key = store.key("finetune", "untrained")

    def write(folder: Path) -> dict[str, Any]:
        write_model(folder, dict(new_model(recipe, contract).state_dict()), info)
        return {}

    store.build("finetune", key, write)
    case = {"arm": "scratch", "label_budget": 3, "fold": "1/3", "subject_id": manifest.subjects[0].subject_id}
    cells = [{"arm": "scratch", "label_budget": 3, "fold": f"{i}/3", "model": m} for i, m in ((1, key), (2, None))]
    overlays = Overlays({"cells": cells}, store)
    picture, why = overlays.of(case)
    assert picture is not None and picture.startswith("data:image/png;base64,iVBOR") and why == ""
    assert overlays.of(case | {"fold": "2/3"}) == (None, "This arm kept no model.")
    assert overlays.of(case | {"fold": "3/3"}) == (None, "This arm kept no model.")
    assert overlays.of(case | {"subject_id": "nobody"}) == (None, "The subject or its label is no longer in the store.")
    assert Overlays({"cells": cells, "labels": "gone"}, store).of(case)[0] is None


def test_write_study__disturbed_arms__in_the_table_beside_scratch_disturbed_and_not_in_the_curve(written, tmp_path):
    study = a_study()
    for name in ("scratch", "anomalies"):
        study["arms"].append({"name": f"{name} under blur", "what": "", "kind": "robustness", "disturbed": "blur"})
        rows = [row_of(study, name, 10) | {"arm": f"{name} under blur", "against_trivial": None}]
        study["table"] += rows
        study["cells"] += [c | {"arm": f"{name} under blur"} for c in study["cells"] if c["arm"] == name][-3:]
    write_study(study, tmp_path, tmp_path)
    cells = markdown_cells(study)
    assert list(cells)[-2:] == ["scratch under blur", "anomalies under blur"]
    assert cells["scratch under blur"] == ["–", "–", "0.600 (0.54-0.66)"]
    assert cells["anomalies under blur"][2] == "0.610 (0.55-0.67); +0.010 (-0.050 to 0.070) to scratch under blur"
    assert "judged on disturbed images" in as_markdown(study)
    for file in ("curve.png", "scatter.png"):
        assert (tmp_path / file).read_bytes() == (written[1] / file).read_bytes()
    trainings = re.findall(r"<tr><td>([\w ]+)</td><td class=\"n\">(\d+)<", (tmp_path / "report.html").read_text())
    assert dict(trainings) == {"threshold": "0", "scratch": "6", "anomalies": "9", "noise": "3",
                               "scratch under blur": "0", "anomalies under blur": "0"}  # fmt: skip


def test_as_markdown__other_figures_of_sets_have_a_table_of_their_own():
    study = a_study()
    assert "auroc" not in as_markdown(study)
    row_of(study, "scratch", 3)["others"] = {
        "auroc_ap": spread_of(0.6),
        "ece": {"mean": None, "low": None, "high": None},
    }
    for row in study["table"]:
        row.setdefault("others", {})
    lines_of = [line for line in as_markdown(study).splitlines() if "| scratch | 3 |" in line]
    assert len(lines_of) == 1 and "0.600 (0.54-0.66) | undefined" in lines_of[0]
