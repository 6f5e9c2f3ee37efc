"""X-rays with a table through every verb: verdicts, privacy, leaks, figures of sets, a study by AUROC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from xray_files import write_archive, write_rows

from domains.domain import find_recipe, load
from domains.errors import GateRefused, RecipeError
from domains.manifest import Manifest, read_manifest
from domains.recipe import Recipe
from domains.store import Store
from pipelines import intervals, study_report
from pipelines import study as studies
from pipelines.dataset import open_dataset, strata_of
from pipelines.evaluate import Evaluated, evaluate
from pipelines.finetune import finetune
from pipelines.ingest import Ingested, ingest
from pipelines.label_meter import read_meter
from pipelines.model_card import model_card
from pipelines.models import open_model
from pipelines.predict import predict
from pipelines.pretrain import Trained, pretrain
from pipelines.report import write_report
from pipelines.study_plan import Plan

PATIENTS = 36
FEW = {"steps": "6", "batch_size": "8", "warmup_steps": "1", "checkpoint_every": "6"}
SMALL = {"data.max_crop": "64"} | {
    f"{verb}.{key}": value for verb in ("pretrain", "finetune") for key, value in FEW.items()
}


@dataclass
class Done:
    home: Path
    source: Path
    rows: list[dict[str, Any]]
    recipe: Recipe
    taken: Ingested
    manifest: Manifest
    model: Trained
    judged: Evaluated


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("xrays")
    home, source = folder / "home", folder / "clinic"
    rows = write_archive(source, PATIENTS)
    (source / "images" / "broken.png").write_bytes(b"\x89PNG and nothing")
    write_rows(source, [*rows, rows[1] | {"image": "broken.png"}, rows[1] | {"image": "gone.png"}])
    recipe = find_recipe("chest_xray")[1].changed(SMALL)
    taken = ingest(source, recipe, home)
    encoder = pretrain(recipe, home)
    model = finetune(recipe, home, encoder=encoder.folder)
    manifest = read_manifest(taken.manifest)
    return Done(home, source, rows, recipe, taken, manifest, model, evaluate(model.folder, home))


def test_ingest__every_file_has_one_verdict(done: Done) -> None:
    images = len(done.rows)
    counts = done.taken.counts
    assert (counts["found"], counts["accepted"], counts["refused"]) == (images + 2, images, 1)
    assert (counts["labels"], counts["ignored"], counts["groups"]) == (1, 0, PATIENTS)
    [table] = [record for record in done.manifest.records if record.verdict == "label"]
    assert "1 of 50 rows name no file here" in table.reason and table.subject_id == ""


def test_ingest__nothing_changes_until_a_row_is_corrected(done: Done, tmp_path: Path) -> None:
    source, home = tmp_path / "clinic", tmp_path / "home"
    rows = write_archive(source, 3)
    once, again = (ingest(source, done.recipe, home) for _ in range(2))
    assert once.manifest_digest == again.manifest_digest and once.counts == again.counts
    first = read_manifest(once.manifest)
    for row in rows:
        row["view"] = "AP" if row["view"] == "PA" else "PA"
    write_rows(source, rows)
    second = read_manifest(ingest(source, done.recipe, home).manifest)
    views = [{s.content_digest: s.facts["view"] for s in manifest.subjects} for manifest in (first, second)]
    assert views[0].keys() == views[1].keys() and all(views[0][key] != views[1][key] for key in views[0])
    for subject in second.subjects:
        entry = Store(home).path("ingest", subject.entry)
        assert json.loads((entry / "stated.json").read_text())["view"] == subject.facts["view"]


def test_home__holds_no_name_of_a_file_or_patient(done: Done) -> None:
    for path in done.home.rglob("*"):
        assert "private-0" not in path.name and "secret-" not in path.name
        if path.is_file():
            content = path.read_bytes()
            assert b"private-0" not in content and b"secret-" not in content, path
    facts = [subject.facts for subject in done.manifest.subjects]
    assert {f["age_band"] for f in facts} >= {"20-29", "30-39"} and all("age" not in f for f in facts)


def test_evaluate__auroc_of_all_cases_with_its_interval(done: Done) -> None:
    result = done.judged.result
    labels = _truth(done)
    cases = {case["subject_id"]: case for case in result["cases"]}
    truth = [labels[key] for key in cases]
    right = np.array([case["metrics"]["label_probability"] for case in cases.values()])
    probability = np.where(truth, right, 1 - right)
    main = result["metrics"]["auroc"]
    assert main["mean"] == pytest.approx(roc_auc_score(truth, probability), abs=1e-4)
    assert main["low"] <= main["mean"] <= main["high"] and main["n"] == len(cases)
    assert set(result["pooled"]) == {"auroc", "average_precision", "ece", "auroc_ap", "auroc_pa"}
    paired = result["paired"]["auroc"]
    assert paired["mean"] == pytest.approx(main["mean"] - result["trivial"]["metrics"]["auroc"]["mean"])
    assert [c["metrics"]["label_probability"] for c in result["cases"]] == sorted(right)


def _truth(done: Done) -> dict[str, bool]:
    store, (manifest, labels) = Store(done.home), open_dataset(done.recipe, done.home)
    head = load("medical").heads["xray_findings"]
    assert head.stratum is not None
    return {
        s.subject_id: head.stratum(store.path("label", labels.entries[s.subject_id])) == 1 for s in manifest.subjects
    }


def test_evaluate__trained_groups_and_pixels_are_refused(done: Done, tmp_path: Path) -> None:
    development = open_model(done.model.folder).info["lineage"]["label_groups"]
    assert not {case["group_id"] for case in done.judged.result["cases"]} & set(development)
    with pytest.raises(GateRefused, match="leak"):
        evaluate(done.model.folder, done.home, source=done.source)
    elsewhere = tmp_path / "elsewhere"  # the same pixels under another patient's name, in another container
    (elsewhere / "images").mkdir(parents=True)
    rows = []
    for i, row in enumerate(done.rows[:12]):
        Image.open(done.source / "images" / row["image"]).convert("RGB").save(elsewhere / "images" / f"{i}.png")
        rows.append(row | {"image": f"{i}.png", "patient_id": f"other {i}"})
    write_rows(elsewhere, rows)
    with pytest.raises(GateRefused, match="leak"):
        evaluate(done.model.folder, done.home, source=elsewhere)


def test_report__says_what_is_of_the_set(done: Done) -> None:
    page = write_report(done.home, evaluation=done.judged.folder).read_text()
    assert "AUROC PA" in page and "computed anew" in page and "on the same cases" in page
    assert "private-0" not in page and "secret-" not in page


def test_model_card__subgroups_of_the_cases_and_of_what_was_learned_from(done: Done) -> None:
    card = model_card(open_model(done.model.folder), [done.judged.result], done.manifest, {}, 0.0)
    cases = done.judged.result["cases"]
    ap = [case["metrics"]["label_probability"] for case in cases if case["facts"]["view"] == "AP"]
    assert f"| View: AP | {len(ap)} | {np.mean(ap):.3f} (" in card and "| auroc_pa | " in card
    lineage = open_model(done.model.folder).info["lineage"]
    learned = [s for s in done.manifest.subjects if s.group_id in lineage["pretrain_groups"]]
    views = [subject.facts["view"] for subject in learned]
    assert f"- View: AP {views.count('AP')}, PA {views.count('PA')}." in card
    assert f"- {len(learned)} cases of {len(lineage['pretrain_groups'])} groups" in card
    assert "private-0" not in card and "secret-" not in card


def test_predict__probabilities_by_name(done: Done, tmp_path: Path) -> None:
    image = done.source / "images" / done.rows[0]["image"]
    [made] = predict(done.model.folder, [image], tmp_path / "out", done.home)
    result = json.loads(next(Path(f) for f in made["files"] if f.endswith("json")).read_text())
    assert list(result["probability"]) == ["pneumonia"] and 0 <= result["probability"]["pneumonia"] <= 1


def test_finetune__a_small_budget_has_both_classes(done: Done) -> None:
    truth = _truth(done)
    group = {s.group_id: truth[s.subject_id] for s in done.manifest.subjects}
    for budget, ill in ((2, 1), (3, 2)):
        model = finetune(done.recipe, done.home, encoder=None, label_budget=budget)
        chosen = open_model(model.folder).info["lineage"]["label_groups"]
        assert len(chosen) == budget and sum(group[g] for g in chosen) == ill
    store, (manifest, labels) = Store(done.home), open_dataset(done.recipe, done.home)
    strata = strata_of(load("medical").heads["xray_findings"], store, labels, manifest.subjects)
    assert strata == {g: int(value) for g, value in group.items()}


def test_pretrain__painted_anomalies_do_not_fit_and_are_refused_before_any_work(done: Done) -> None:
    with pytest.raises(RecipeError, match=r"needs a painter of anomalies; objectives that fit: .*mae"):
        pretrain(done.recipe.changed({"objective": "anomaly_synthesis"}), done.home)


@pytest.fixture(scope="module")
def studied(done: Done) -> Iterator[studies.Studied]:
    with pytest.MonkeyPatch.context() as few:
        few.setattr(study_report, "MOST_CASES", 1)
        few.setattr(intervals, "RESAMPLES", 200)  # the table's own cost: a second for each of its rows
        arms = ("view + age + sex", "scratch", "mae")
        yield studies.study(done.recipe, done.home, Plan(label_budgets=(2, 4, 8), folds=2, arms=arms))


def test_study__auroc_by_fold_and_averaged(studied: studies.Studied, done: Done) -> None:
    result, truth = studied.result, _truth(done)
    row = next(r for r in result["table"] if (r["arm"], r["label_budget"]) == ("scratch", 4))
    by_fold = []
    for fold in ("1/2", "2/2"):
        cases = [c for c in result["cases"] if (c["arm"], c["label_budget"], c["fold"]) == ("scratch", 4, fold)]
        probability = [c["details"]["probability"]["pneumonia"] for c in cases]
        by_fold.append(roc_auc_score([truth[c["subject_id"]] for c in cases], probability))
    assert row["mean"] == pytest.approx(np.mean(by_fold)) and row["low"] < row["mean"] < row["high"]
    assert row["n"] == len(done.rows) == result["subjects"]
    other = next(r for r in result["table"] if (r["arm"], r["label_budget"]) == ("mae", 4))
    assert other["against_scratch"]["mean"] == pytest.approx(other["mean"] - row["mean"])
    view = next(r for r in result["table"] if r["label_budget"] is None)
    assert row["against_trivial"]["mean"] == pytest.approx(row["mean"] - view["mean"])


def test_study__gains_by_fold_and_the_meter_are_of_the_same_metric(
    studied: studies.Studied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    result = studied.result
    row = next(r for r in result["table"] if (r["arm"], r["label_budget"]) == ("mae", 2))
    gains = [one["mean"] for one in result["by_fold"] if one["label_budget"] == 2]
    assert np.mean(gains) == pytest.approx(row["against_scratch"]["mean"])
    reading = read_meter(json.loads((studied.folder / "study.json").read_text()), 8, arm="mae")
    assert reading is not None and reading.cases == result["subjects"] and len(result["meter"]) == 3
    assert any("averaged over folds" in line for line in result["accounting"])
    assert any("take turns" in line for line in result["accounting"])
    assert "AUROC (mean of folds)" in (studied.folder / "table.md").read_text()
