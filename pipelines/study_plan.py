"""The plan of a study: which arms, label budgets, folds and draws make its cells, and how long they will take."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from domains.domain import load
from domains.errors import NothingUsable
from domains.head import Head
from domains.manifest import Labels, Manifest
from domains.recipe import Recipe
from domains.splits import split, unit_of
from domains.store import Store
from pipelines.arms import Arm, arms_of, disturbed, screened
from pipelines.cells import Cell
from pipelines.dataset import label_entries, open_dataset, subject_entries
from pipelines.finetune import Supervised
from pipelines.loop import Job, train
from pipelines.models import new_model

TRIAL_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study compares."""

    label_budgets: Sequence[int]
    """Numbers of labelled groups (subjects, where the head counts these); 0 asks for the models with zero labels."""
    folds: int = 3
    """Parts of the groups, at least two; each is held out once."""
    arms: Sequence[str] | None = None
    """Names; None: all that fit the recipe."""
    given: Path | None = None
    """Folder of an encoder that a user brought, one more arm."""
    draws: int = 1
    """How often the labelled groups of each fold, and the first weights of the heads, are drawn anew."""
    screen: bool = False
    """Every objective that fits, behind a frozen encoder, on the first fold alone: to choose which are worth folds."""
    robustness: bool = False
    """The models from scratch and from pretraining judged on disturbed images too, at the largest label budget."""

    def arms_for(self, recipe: Recipe, most: int) -> list[Arm]:
        """The arms; `most` is the largest label budget that every fold has."""
        arms = screened(recipe) if self.screen else arms_of(recipe, self.arms, self.given)
        largest = max((k for k in self.label_budgets if k <= most), default=0)
        return [*arms, *disturbed(arms, largest)] if self.robustness else arms


def plan_cells(recipe: Recipe, home: Path, manifest: Manifest, labels: Labels, plan: Plan) -> list[Cell]:
    """The cells of a study: what is pretrained first, then by budget, so that an unfinished table is a small one.

    Raises:
        UsageError: an unknown arm, or more folds than groups.
        NothingUsable: no labels.
    """
    if not labels.entries:
        raise NothingUsable(f"no labelled subject for {recipe.name}: ingest masks first")
    names = [f"{i}/{plan.folds}" for i in range(1, plan.folds + 1)][: 1 if plan.screen else None]
    head, classes = load(recipe.domain).heads[recipe.head], manifest.contract.num_classes
    smallest = min(_most_labels(manifest, labels, fold, head) for fold in names)
    cells = [
        Cell(arm, budget, fold, recipe.changed({"fold": fold}).to_yaml(), str(home), draw=draw)
        for arm in plan.arms_for(recipe, smallest)
        for budget in _budgets(arm, plan.label_budgets, smallest, head, classes)
        for fold in names for draw in range(plan.draws if budget else 1)
    ]  # fmt: skip
    return sorted(cells, key=lambda cell: (cell.arm.needs_training, cell.label_budget or 0, cell.draw, cell.arm.rank))


def _most_labels(manifest: Manifest, labels: Labels, fold: str, head: Head) -> int:
    """The largest label budget of a fold."""
    labelled = [s for s in split(manifest.subjects, fold).development if s.subject_id in labels.entries]
    return len({unit_of(s, head.counts_subjects) for s in labelled})


def _budgets(arm: Arm, wanted: Sequence[int], most: int, head: Head, classes: int) -> list[int | None]:
    """The budgets that make sense for an arm; None where labels change nothing."""
    if not arm.needs_training:
        return [None]
    least = 0 if arm.has_model_without_labels(head, classes) else 1
    return [k for k in wanted if least <= k <= most and (arm.budgets is None or k in arm.budgets)]


def expected_seconds(recipe: Recipe, home: Path, cells: Sequence[Cell], workers: int) -> float:
    """How long the cells will take if the store has none of them: their steps at the rate of a short trial."""
    trained = [cell for cell in cells if cell.arm.needs_training and not cell.arm.disturbed]
    finetuned = sum(
        (2 if cell.arm.taught else 1) * cell.arm.recipe(recipe).finetune.steps for cell in trained if cell.label_budget
    )
    pretrained = len({(cell.arm.objective, cell.arm.changes, cell.fold) for cell in trained if cell.arm.objective})
    steps = finetuned + pretrained * recipe.pretrain.steps
    return steps * _seconds_a_step(recipe, home) / workers


def _seconds_a_step(recipe: Recipe, home: Path) -> float:
    """Of fine-tuning, by a trial of a few steps on few subjects that leaves nothing behind."""
    store = Store(home)
    manifest, labels = open_dataset(recipe, home)
    subjects = [s for s in manifest.subjects if s.subject_id in labels.entries][:4]
    domain, contract = load(recipe.domain), manifest.contract
    entries, targets = subject_entries(store, subjects), label_entries(store, labels, subjects)
    crops = domain.crops(entries, targets, subjects, contract, recipe, recipe.finetune.augment)
    settings = recipe.finetune.model_copy(update={"steps": TRIAL_STEPS})
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            module=Supervised(new_model(recipe, contract), domain.heads[recipe.head]), source=crops, settings=settings,
            seed=0, precision=recipe.precision, devices=recipe.devices, folder=Path(folder), identity={},
            label="trial", spatial_axes=contract.geometry.spatial_axes,
        )  # fmt: skip
        return train(job, cast(Any, _Untracked())).seconds / TRIAL_STEPS


class _Untracked:
    """A trial's tracker: it is no run of anybody's."""

    def log(self, step: int, figures: dict[str, float]) -> None: ...
    def note(self, text: str) -> None: ...
