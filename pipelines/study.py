"""study: a recipe, label budgets and folds -> the label-efficiency curve of pretraining beside honest competitors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from domains.domain import load
from domains.errors import NothingUsable
from domains.head import Head
from domains.manifest import Labels, Manifest
from domains.recipe import Recipe
from domains.store import Store
from pipelines.arms import PROPOSAL, Arm, under
from pipelines.cells import Cell, run_cell
from pipelines.dataset import open_dataset
from pipelines.ingest import take_in
from pipelines.intervals import interval, summary, without_nan
from pipelines.label_meter import SCRATCH, OfSets, read_meter, scores_of, worth_in_labels
from pipelines.report_data import words
from pipelines.study_plan import Plan, plan_cells
from pipelines.study_report import write_study
from ssl_models.disturb import WORDS

Cases = list[dict[str, Any]]
"""Judged subjects, each with its arm, label budget, fold, group, score and, for metrics of sets, details."""
SEEN = "Its settings were chosen with labels; how many is said below."
"""Note at what claims to need no labels."""

Runner = Callable[[Sequence[Cell]], Iterable[tuple[Cell, dict[str, Any]]]]
"""Cells -> each cell with its result, in any order: the place where flows put several processes."""


@dataclass(frozen=True)
class Studied:
    """A study in the store; `result` is its `study.json`."""

    folder: Path
    result: dict[str, Any]


def one_by_one(cells: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """The cells in order, in this process."""
    for cell in cells:
        yield cell, run_cell(cell)


def study(
    recipe: Recipe, home: Path, plan: Plan, *, test: Path | None = None, runner: Runner = one_by_one, command: str = "",
) -> Studied:  # fmt: skip
    """Every arm at every label budget on every fold, judged on the groups that the fold holds out.

    The folds together test every labelled group once. Pretraining leaves a fold's test groups out; label budgets are
    nested and equal for all arms; no label is set aside for validation. Each cell is kept in the store, so a study that
    was killed goes on.

    Args:
        recipe: whose pretraining is judged; its `fold` is replaced.
        home: the store.
        plan: what is compared.
        test: another labelled folder that every fold's models are judged on instead; a subject's score is then the
            mean over the folds.
        runner: how the cells are run.
        command: what a person typed, for the report.

    Raises:
        UsageError: nothing ingested, an unknown arm, more folds than groups.
        NothingUsable: no labels.
    """
    started, home = time.monotonic(), Path(home)
    manifest, labels = open_dataset(recipe, home)
    cells = plan_cells(recipe, home, manifest, labels, plan)
    if test is not None:
        taken = take_in(Path(test), recipe, home, contract=manifest.contract).dataset
        if taken.labels is None:
            raise NothingUsable(f"no labelled subject in {test}: a study is judged on labels")
        cells = [replace(cell, test=(taken.manifest, taken.labels)) for cell in cells]
    results = dict(runner(cells))
    result = _summary(recipe, manifest, labels, cells, results, plan)
    result |= {"seconds": time.monotonic() - started, "command": command}
    if cells[0].test is not None:
        result |= dict(zip(("manifest", "labels"), cells[0].test, strict=True))
    result = without_nan(result)
    store = Store(home)
    key = store.key("study", [[asdict(cell) for cell in _anywhere(cells)], manifest.digest, labels.digest])
    folder = store.build("study", key, lambda out: write_study(result, home, out))
    return Studied(folder, result)


def _anywhere(cells: Sequence[Cell]) -> list[Cell]:
    """Cells without places on this disk, for keys."""
    return [replace(cell, home="", arm=replace(cell.arm, given="")) for cell in cells]


def _summary(
    recipe: Recipe, manifest: Manifest, labels: Labels, cells: Sequence[Cell],
    results: dict[Cell, dict[str, Any]], plan: Plan,
) -> dict[str, Any]:  # fmt: skip
    head = load(recipe.domain).heads[recipe.head]
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    cases = [
        {"arm": cell.arm.name, "label_budget": cell.label_budget, "fold": cell.fold, "draw": cell.draw, **case}
        for cell in cells for case in results[cell]["cases"]
    ]  # fmt: skip
    judged_by = {"primary": head.primary_metric, "domain": recipe.domain, "head": recipe.head,
                 "ranked_by": head.ranked_by, "pooled": head.of_sets}  # fmt: skip
    of_sets = OfSets.of(judged_by)
    table = [
        row for arm in arms for budget in dict.fromkeys(c.label_budget for c in cells if c.arm == arm)
        if (row := _row(cases, arm, budget, head, of_sets))
    ]  # fmt: skip
    pretrained = [arm.name for arm in arms if arm.kind == "pretrained"]
    main = _best(table, pretrained) if plan.screen else next(iter(pretrained), "")
    tested = {case["subject_id"]: case["group_id"] for case in cases}
    worth, by_fold = _worth(cases, main, of_sets), _by_fold(cases, main, of_sets)
    return {
        "schema_version": 1, "recipe": recipe.name, **judged_by, "folds": plan.folds, "draws": plan.draws,
        "title": f"When does pretraining save labels? {recipe.name}",
        "label_unit": "subjects" if head.counts_subjects else "groups",
        "subjects": len(tested), "groups": len(set(tested.values())),
        "label_budgets": sorted({c.label_budget for c in cells if c.label_budget is not None}),
        "arms": [{"name": a.name, "what": a.what, "kind": a.kind, "disturbed": a.disturbed} for a in arms],
        "table": table,
        "cells": [{"arm": c.arm.name, "label_budget": c.label_budget, "fold": c.fold, "draw": c.draw,
                   "model": results[c]["model"], "seconds": results[c]["seconds"]} for c in cells],
        "cases": cases, "main_arm": main, "worth": worth, "verdict": _verdict(table, main, worth),
        "meter": _meter({"cases": cases, **judged_by}, main), "by_fold": by_fold,
        "accounting": [*_accounting(head, plan, len(set(tested.values())), cells[0].test is not None),
                       *_how_judged(head, of_sets is not None), *_luck(by_fold, plan.draws)],
        "warnings": _warnings(table),
    }  # fmt: skip


def _best(table: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """The arm of these with the highest figure at the largest label budget."""
    rows = [row for row in table if row["arm"] in names and row["mean"] is not None]
    return str(max(rows, key=lambda row: (row["label_budget"], row["mean"]))["arm"]) if rows else ""


def _row(cases: Cases, arm: Arm, budget: int | None, head: Head, of_sets: OfSets | None) -> dict[str, Any]:
    """An arm at a budget; a disturbed one beside scratch under the same disturbance, and no rule, which saw none."""
    mine, trivial, scratch = _of(cases, arm.name, budget), head.trivial_name, under(SCRATCH, arm.disturbed)
    to_scratch, to_trivial = _of(cases, scratch, budget), [] if arm.disturbed else _of(cases, trivial, None)
    return {
        "arm": arm.name, "label_budget": budget, **_figure(mine, of_sets),
        "note": SEEN if head.accounting and not budget else "",
        "others": of_sets.others(mine) if of_sets else {},
        "against_scratch": None if arm.name == scratch else _difference(mine, to_scratch, of_sets),
        "against_trivial": None if arm.name == trivial else _difference(mine, to_trivial, of_sets),
    }  # fmt: skip


def _of(cases: Cases, arm: str, budget: int | None) -> Cases:
    return [case for case in cases if case["arm"] == arm and case["label_budget"] == budget]


def _scores(cases: Cases) -> dict[str, tuple[float, str]]:
    """Subject id -> (mean score, group) of one arm's cases; a score that is not defined counts as the worst, 0."""
    found: dict[str, list[float]] = {}
    groups = {case["subject_id"]: case["group_id"] for case in cases}
    for case in cases:
        found.setdefault(case["subject_id"], []).append(case["score"] or 0.0)
    return {subject: (sum(scores) / len(scores), groups[subject]) for subject, scores in found.items()}


def _figure(cases: Cases, of_sets: OfSets | None) -> dict[str, float]:
    """The primary metric of one arm's cases, with its interval over groups; n counts subjects."""
    scores = _scores(cases)
    groups = [group for _, group in scores.values()]
    if of_sets is not None:
        return summary(of_sets.draws(cases), groups)
    return interval([score for score, _ in scores.values()], groups)


def _difference(mine: Cases, theirs: Cases, of_sets: OfSets | None) -> dict[str, float] | None:
    """Paired difference over the subjects that both were judged on, with its interval over groups."""
    here, there = _shared(mine, theirs)
    if not here:
        return None
    ahead, behind = _scores(here), _scores(there)
    groups = [group for _, group in ahead.values()]
    if of_sets is not None:
        return summary(of_sets.draws(here) - of_sets.draws(there), groups)
    return interval([ahead[s][0] - behind[s][0] for s in ahead], groups)


def _shared(mine: Cases, theirs: Cases) -> tuple[Cases, Cases]:
    """The cases of both whose subject the other has too."""
    both = {case["subject_id"] for case in mine} & {case["subject_id"] for case in theirs}
    here, there = ([case for case in cases if case["subject_id"] in both] for cases in (mine, theirs))
    return here, there


def _value(cases: Cases, of_sets: OfSets | None) -> float:
    """The primary metric of one arm's cases."""
    scores = [score for score, _ in _scores(cases).values()]
    return of_sets.figure(cases) if of_sets is not None else sum(scores) / len(scores)


def _by_fold(cases: Cases, main: str, of_sets: OfSets | None) -> list[dict[str, Any]]:
    """Main arm minus scratch, budget by budget and fold by fold: what the luck of one draw of labels does."""
    found = []
    budgets = sorted({case["label_budget"] for case in cases if case["arm"] == main and case["label_budget"]})
    for budget in budgets:
        for fold, draw in sorted({(c["fold"], c["draw"]) for c in cases if c["label_budget"] == budget}):
            within = [case for case in cases if (case["fold"], case["draw"]) == (fold, draw)]
            here, there = _shared(_of(within, main, budget), _of(within, SCRATCH, budget))
            if here:
                gain = _value(here, of_sets) - _value(there, of_sets)
                found.append({"label_budget": budget, "fold": fold, "draw": draw, "mean": gain})
    return found


def _luck(by_fold: Sequence[dict[str, Any]], draws: int) -> list[str]:
    if not by_fold:
        return []
    budgets = dict.fromkeys(one["label_budget"] for one in by_fold)
    each = [
        f"{k} labels " + ", ".join(f"{one['mean']:+.3f}" for one in by_fold if one["label_budget"] == k)
        for k in budgets
    ]
    often = "once" if draws == 1 else f"{draws} times"
    luck = (
        f"The labels of each fold are drawn {often}, and the luck of that is not in the intervals. Pretrained minus "
        "scratch, by fold and draw: "
    )
    return [luck + "; ".join(each) + "."]


def _worth(cases: Cases, main: str, of_sets: OfSets | None) -> list[dict[str, Any]]:
    arm, scratch = scores_of(cases, main, of_sets), scores_of(cases, SCRATCH, of_sets)
    if arm is None or scratch is None or arm.groups != scratch.groups:
        return []
    return [{"label_budget": one.labels, "text": one.says()} for one in worth_in_labels(arm, scratch)]


def _meter(study: dict[str, Any], main: str) -> list[str]:
    """What the next hour of labelling buys, at each budget of the main arm."""
    budgets = sorted({case["label_budget"] for case in study["cases"] if case["arm"] == main and case["label_budget"]})
    readings = [read_meter(study, budget, arm=main) for budget in budgets]
    return [reading.says() for reading in readings if reading is not None]


def _verdict(table: Sequence[dict[str, Any]], main: str, worth: Sequence[dict[str, Any]]) -> str:
    """One sentence a budget: by how much the main arm is ahead of scratch, and whether chance explains it."""
    parts = []
    for row in table:
        if row["arm"] != main:
            continue
        gain = row["against_scratch"] or (row["against_trivial"] if row["label_budget"] == 0 else None)
        if gain is None:
            continue
        against = "scratch" if row["against_scratch"] else "the trivial competitor"
        parts.append(f"{row['label_budget']} labels: {gain['mean']:+.3f} {_how_sure(gain, against)}")
    text = f"Pretraining with {main}: " + "; ".join(parts) if parts else "No arm to compare."
    return ". ".join([text, *(one["text"] for one in worth if one["label_budget"] > 0)][:2])


def _how_sure(gain: dict[str, float], against: str) -> str:
    if math.isnan(gain["low"]):
        return f"against {against}, from too few groups for an interval"
    sure = "" if gain["low"] > 0 or gain["high"] < 0 else ", which chance may explain"
    return f"({gain['low']:+.3f} to {gain['high']:+.3f}) against {against}{sure}"


def _warnings(table: Sequence[dict[str, Any]]) -> list[str]:
    """What must not be: an arm whose score falls with more labels, a pupil with zero labels below its teacher."""
    score = {(row["arm"], row["label_budget"]): row["mean"] for row in table}
    rule, pupil = score.get((PROPOSAL, None)), score.get(("proposals", 0))
    found = []
    if rule is not None and pupil is not None and pupil <= rule:
        found.append(
            f"with zero labels the network ({pupil:.3f}) is not better than the rule it learned from ({rule:.3f})"
        )
    for arm in dict.fromkeys(row["arm"] for row in table):
        rows = sorted((r for r in table if r["arm"] == arm and r["label_budget"] is not None), key=lambda r: r["label_budget"])  # fmt: skip  # noqa: E501
        for before, after in pairwise(rows):
            if after["mean"] < before["mean"]:
                found.append(f"{arm}: {after['label_budget']} labels score {after['mean']:.3f}, below {before['mean']:.3f} with {before['label_budget']}")  # fmt: skip  # noqa: E501
    return found


def _accounting(head: Head, plan: Plan, groups: int, elsewhere: bool) -> list[str]:
    where = f"{plan.folds} folds by group; together they test each of the {groups} labelled groups once."
    if elsewhere:
        where = f"Judged on {groups} groups of another folder; a score is the mean over the {plan.folds} folds' models."
    if plan.screen:
        where = (
            f"A screening: encoders frozen, judged on the {groups} labelled groups of the first of {plan.folds} folds. "
            "The arm named first is the best of them with the most labels on these very groups: a lead, no proof."
        )
    return [
        where,
        "Pretraining sees the images of a fold's other groups and no label; the fold's test groups are left out.",
        f"A label budget K is the first K {'subjects' if head.counts_subjects else 'groups'} of one seeded order: "
        "nested, and equal for all arms of a fold.",
        "No label is used for early stopping or model selection; all arms fine-tune for the same number of steps.",
        *([_disturbances()] if plan.robustness else []),
        *head.accounting,
    ]


def _disturbances() -> str:
    return (
        "Under a disturbance nothing is trained: the same models see the test images, after their preparation, with "
        + "; with ".join(f"{words} ({name})" for name, words in WORDS.items())
        + ". These strengths were chosen by eye, not by scores."
    )


def _how_judged(head: Head, pooled: bool) -> list[str]:
    """What is particular to metrics of sets and to labels that are classes."""
    found = ["A score that is not defined counts as 0."]
    if pooled:
        found = [
            f"{words(head.primary_metric)} is a figure of a set: it is computed over the cases of each fold's model, "
            "then averaged over folds, and so again in every resample of the groups. Predictions of different models "
            "are not ranked against each other."
        ]
    if head.stratum is not None:
        found.append(
            "The classes take turns in the seeded order of the labelled groups, the one with a finding first: a budget "
            "is balanced, which a random draw would not be, and whoever draws it has looked at the classes of all."
        )
    return found
