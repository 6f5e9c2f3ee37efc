"""A study tests every group once, keeps its books, goes on where it was, and finds nothing where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from domains.domain import load
from domains.errors import UsageError
from domains.recipe import Recipe
from domains.store import Missing, Store
from pipelines import cells, study, study_report
from pipelines.arms import arms_of, under
from pipelines.checkpoint import read_model
from pipelines.dataset import open_dataset
from pipelines.ingest import ingest
from pipelines.models import Loaded
from pipelines.study import Studied
from pipelines.study_plan import Plan, plan_cells
from ssl_models import disturb

BUDGETS = (0, 2, 3)
ARMS = ("scratch", "proposals", "proposal")
HEADS = 8


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def recipe(home: Path, few_steps: Recipe) -> Recipe:
    recipe = few_steps.changed({"objective": "proposals", "finetune.steps": "2", "pretrain.steps": "2"})
    _generate(home / "raw", HEADS + 1, 0)
    (home / "raw" / "case_002" / "mask.nii.gz").unlink()  # a patient without a label is in the archive too
    ingest(home / "raw", recipe, home)
    return recipe


def _generate(folder: Path, heads: int, seed: int) -> None:
    generate = load("medical").generate
    assert generate is not None
    generate(folder, heads, seed)


@pytest.fixture(scope="module")
def studied(home: Path, recipe: Recipe) -> Iterator[Studied]:
    with pytest.MonkeyPatch.context() as few:
        few.setattr(study_report, "MOST_CASES", 1)  # pictures of untrained models take a second each
        yield study.study(recipe, home, Plan(label_budgets=BUDGETS, folds=2, arms=ARMS))


def test_study__every_group_is_tested_once_by_every_arm(studied: Studied) -> None:
    cases = studied.result["cases"]
    for arm, budget in {(case["arm"], case["label_budget"]) for case in cases}:
        tested = [case["subject_id"] for case in cases if (case["arm"], case["label_budget"]) == (arm, budget)]
        assert len(tested) == len(set(tested)) == HEADS
    rows = {(row["arm"], row["label_budget"]) for row in studied.result["table"]}
    assert {("proposals", k) for k in BUDGETS} | {("scratch", 2), ("scratch", 3)} <= rows
    assert ("scratch", 0) not in rows and ("proposal", None) in rows


def test_study__budgets_are_nested_equal_for_all_arms_and_leave_the_test_groups_out(
    studied: Studied, home: Path
) -> None:
    store = Store(home)
    held_out = {(case["fold"], case["group_id"]) for case in studied.result["cases"]}
    used: dict[tuple[str, int], set[frozenset[str]]] = {}
    for cell in studied.result["cells"]:
        if cell["model"] is None:
            continue
        lineage = read_model(store.path("finetune", cell["model"]))[1]["lineage"]
        tested = {group for fold, group in held_out if fold == cell["fold"]}
        assert not tested & set(lineage["label_groups"]) and not tested & set(lineage["pretrain_groups"])
        assert len(lineage["label_groups"]) == cell["label_budget"]
        used.setdefault((cell["fold"], cell["label_budget"]), set()).add(frozenset(lineage["label_groups"]))
    assert all(len(sets) == 1 for sets in used.values())
    for fold in ("1/2", "2/2"):
        assert next(iter(used[fold, 2])) < next(iter(used[fold, 3]))


def test_study__differences_are_paired_over_the_same_subjects(studied: Studied) -> None:
    cases = {(c["arm"], c["label_budget"], c["subject_id"]): c["score"] for c in studied.result["cases"]}
    row = next(r for r in studied.result["table"] if (r["arm"], r["label_budget"]) == ("proposals", 2))
    subjects = {c["subject_id"] for c in studied.result["cases"]}
    expected = sum(cases["proposals", 2, s] - cases["scratch", 2, s] for s in subjects) / len(subjects)
    assert row["against_scratch"]["mean"] == pytest.approx(expected)
    assert row["against_scratch"]["low"] <= expected <= row["against_scratch"]["high"]


def test_study__gains_by_fold_average_to_the_gain(studied: Studied) -> None:
    row = next(r for r in studied.result["table"] if (r["arm"], r["label_budget"]) == ("proposals", 2))
    by_fold = [one["mean"] for one in studied.result["by_fold"] if one["label_budget"] == 2]
    tested = [len({c["subject_id"] for c in studied.result["cases"] if c["fold"] == fold}) for fold in ("1/2", "2/2")]
    mean = sum(gain * n for gain, n in zip(by_fold, tested, strict=True)) / sum(tested)
    assert row["against_scratch"]["mean"] == pytest.approx(mean)


def test_study__again__nothing_is_trained(studied: Studied, home: Path, recipe: Recipe) -> None:
    with Store.only_looking():
        again = study.study(recipe, home, Plan(label_budgets=BUDGETS, folds=2, arms=ARMS))
    assert again.folder == studied.folder


def test_study__killed_between_cells__finished_cells_are_kept(home: Path, recipe: Recipe) -> None:
    other, begun = recipe.changed({"seed": "5"}), []

    def dies_after_one(planned: Sequence[cells.Cell]) -> Iterator[tuple[cells.Cell, dict[str, Any]]]:
        begun.extend(planned)
        yield planned[0], cells.run_cell(planned[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.study(other, home, Plan(label_budgets=(2,), folds=2, arms=("scratch",)), runner=dies_after_one)
    with Store.only_looking():
        assert cells.run_cell(begun[0])["cases"]
        with pytest.raises(Missing):
            cells.run_cell(begun[1])


def test_study__another_folder__judged_there_once_a_subject(home: Path, recipe: Recipe, tmp_path: Path) -> None:
    _generate(tmp_path / "elsewhere", 2, 7)
    result = study.study(
        recipe, home, Plan(label_budgets=(2,), folds=2, arms=("scratch",)), test=tmp_path / "elsewhere"
    ).result
    assert {row["n"] for row in result["table"]} == {2}


def test_study__unknown_arm__refused(home: Path, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="unknown arms mea; arms are"):
        study.study(recipe, home, Plan(label_budgets=(2,), folds=2, arms=("mea",)))


def test_study__draws__other_labels_other_models_one_encoder(home: Path, recipe: Recipe) -> None:
    planned = Plan(label_budgets=(2,), folds=2, arms=("scratch", "proposals"), draws=2)
    result = study.study(recipe, home, planned).result
    cells_of = [cell for cell in result["cells"] if cell["arm"] == "proposals" and cell["fold"] == "1/2"]
    assert [cell["draw"] for cell in cells_of] == [0, 1]
    folders = [Store(home).path("finetune", cell["model"]) for cell in cells_of]
    first, second = (read_model(folder)[1]["lineage"] for folder in folders)
    assert first["encoder"] == second["encoder"] and first["label_groups"] != second["label_groups"]
    assert {row["n"] for row in result["table"]} == {result["subjects"]}
    row = next(row for row in result["table"] if row["arm"] == "proposals")
    scores = [case["score"] for case in result["cases"] if case["arm"] == "proposals"]
    assert row["mean"] == pytest.approx(sum(scores) / len(scores)) and len(result["by_fold"]) == 4


def test_plan__screening__each_objective_that_fits_frozen_on_one_fold(recipe: Recipe, home: Path) -> None:
    manifest, labels = open_dataset(recipe, home)
    planned = plan_cells(recipe, home, manifest, labels, Plan(label_budgets=(0, 2), folds=2, screen=True))
    names = {cell.arm.name for cell in planned}
    assert {"mae", "rotation", "scratch"} <= names and "temporal_contrast" not in names
    assert {cell.fold for cell in planned} == {"1/2"}
    assert all(cell.arm.recipe(recipe).finetune.encoder == "frozen" for cell in planned if cell.arm.needs_training)


def test_best__the_highest_with_the_most_labels() -> None:
    table = [{"arm": a, "label_budget": k, "mean": m} for a, k, m in (("a", 3, 0.9), ("a", 10, 0.5), ("b", 10, 0.6))]
    assert study._best([*table, {"arm": "scratch", "label_budget": 10, "mean": 1.0}], ["a", "b"]) == "b"


def test_verdict__too_few_groups_for_an_interval() -> None:
    gain = {"mean": 0.1, "low": float("nan"), "high": float("nan"), "n": 9}
    row = {"arm": "mae", "label_budget": 3, "against_scratch": gain, "against_trivial": None}
    assert "from too few groups for an interval" in study._verdict([row], "mae", [])


def test_arms__any_objective_that_fits_may_be_named(recipe: Recipe) -> None:
    [arm] = arms_of(recipe, ["rotation"])
    assert arm.kind == "pretrained" and arm.recipe(recipe).objective == "rotation"
    with pytest.raises(UsageError, match="unknown arms temporal_contrast"):
        arms_of(recipe, ["temporal_contrast"])


def test_warnings__more_labels_that_hurt_are_named() -> None:
    table = [{"arm": "a", "label_budget": k, "mean": m} for k, m in ((0, 0.5), (3, 0.4), (10, 0.6))]
    assert study._warnings(table) == ["a: 3 labels score 0.400, below 0.500 with 0"]


def test_warnings__a_pupil_below_its_teacher_is_named() -> None:
    table = [
        {"arm": "proposal", "label_budget": None, "mean": 0.6},
        {"arm": "proposals", "label_budget": 0, "mean": 0.5},
    ]
    assert study._warnings(table) == [
        "with zero labels the network (0.500) is not better than the rule it learned from (0.600)"
    ]


def _stand_in(loaded: Loaded, disturbance: str = "") -> Callable[[Path], Any]:
    """Stands for a predictor: a number that depends on the model, the disturbance and the subject."""
    seed = f"{loaded.info['sha256']} {disturbance} "
    return lambda entry: sha256((seed + entry.name).encode()).digest()[0]


def test_study__robustness__the_same_models_disturbed_beside_scratch_disturbed(
    studied: Studied, home: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the undisturbed models have scored is in the store; judging the others would take a minute."""
    monkeypatch.setattr(cells, "predictor", _stand_in)
    monkeypatch.setattr(cells, "_judged", lambda head, prediction, entry, label: {"score": prediction / 255})
    monkeypatch.setattr(study_report, "MOST_CASES", 0)
    trained = sorted(home.glob("store/finetune/*"))
    planned = Plan(label_budgets=(*BUDGETS, 99), folds=2, arms=ARMS, robustness=True)
    result = study.study(recipe, home, planned).result
    assert sorted(home.glob("store/finetune/*")) == trained

    more = {(under(arm, name), 3) for arm in ("scratch", "proposals") for name in disturb.NAMES}
    rows = {(row["arm"], row["label_budget"]): row for row in result["table"]}
    assert rows.keys() == {(row["arm"], row["label_budget"]) for row in studied.result["table"]} | more
    models = {(c["arm"], c["label_budget"], c["fold"]): c["model"] for c in result["cells"]}
    assert all(models[arm, k, "1/2"] == models[arm.split(" under ")[0], k, "1/2"] is not None for arm, k in more)

    scores: dict[str, dict[str, float]] = {}
    for case in result["cases"]:
        if case["label_budget"] == 3:
            scores.setdefault(case["arm"], {})[case["subject_id"]] = case["score"]
    mine, beside = scores["proposals under noise"], scores["scratch under noise"]
    assert mine.keys() == scores["scratch"].keys() and mine != scores["proposals under blur"]
    gain = rows["proposals under noise", 3]["against_scratch"]["mean"]
    assert gain == pytest.approx(sum(mine[s] - beside[s] for s in mine) / len(mine))
    assert rows["scratch under noise", 3]["against_scratch"] is None
    assert all(rows[key]["against_trivial"] is None for key in more)

    same = ("verdict", "worth", "meter", "by_fold", "warnings", "main_arm", "label_budgets", "subjects")
    assert all(result[key] == studied.result[key] for key in same)
    assert [row for row in result["table"] if (row["arm"], row["label_budget"]) not in more] == studied.result["table"]
    assert sum("Gaussian noise" in sentence for sentence in result["accounting"]) == 1


def test_plan__robustness__judged_when_all_else_at_the_largest_budget_is(recipe: Recipe, home: Path) -> None:
    manifest, labels = open_dataset(recipe, home)
    wanted = Plan(label_budgets=(0, 2, 3, 99), folds=2, screen=True, robustness=True)
    planned = plan_cells(recipe, home, manifest, labels, wanted)
    more = [cell for cell in planned if cell.arm.kind == "robustness"]
    assert planned[-len(more) :] == more and {cell.label_budget for cell in more} == {3}
    trained = {cell.arm.name for cell in planned if cell.arm.kind in ("scratch", "pretrained")}
    assert {cell.arm.name for cell in more} == {under(arm, name) for arm in trained for name in disturb.NAMES}
