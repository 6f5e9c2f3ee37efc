"""Cells of a study: one arm at one label budget on one fold, trained and judged, or read from the store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from domains.domain import load, recipe_from
from domains.head import Head, Prediction
from domains.manifest import Labels, Manifest, Subject, read_manifest
from domains.recipe import Recipe
from domains.splits import refuse_leak, split
from domains.store import Store
from pipelines.arms import Arm
from pipelines.dataset import open_dataset, read_labels, strata_of
from pipelines.finetune import finetune
from pipelines.models import open_model, predictor
from pipelines.next import order
from pipelines.pretrain import pretrain
from pipelines.progress import Progress
from ssl_models.disturb import WORDS


@dataclass(frozen=True)
class Cell:
    """One arm at one label budget on one fold."""

    arm: Arm
    label_budget: int | None
    fold: str
    yaml: str
    """Of the study's recipe with this fold."""
    home: str
    test: tuple[str, str] | None = None
    """Store keys of the manifest and labels of another folder to judge on, instead of the fold's held-out groups."""
    draw: int = 0
    """Which draw of the labelled groups, and of the weights that pretraining does not give."""

    @property
    def recipe(self) -> Recipe:
        return recipe_from(yaml.safe_load(self.yaml))[1]


def run_cell(cell: Cell) -> dict[str, Any]:
    """Trains and judges one cell, or reads what the store has of it.

    Returns:
        `model`, its store key or None; `cases`, a `subject_id`, `group_id` and `score` each, with its `details` where
        the primary metric is one of sets; `seconds`.
    """
    started, home = time.monotonic(), Path(cell.home)
    recipe = cell.arm.recipe(cell.recipe)
    manifest, labels = open_dataset(recipe, home)
    # the fold of all subjects, as pretraining takes it: unlabelled ones must not shift who is held out
    parts = split(manifest.subjects, recipe.fold)
    development, tested = (
        [s for s in part if s.subject_id in labels.entries] for part in (parts.development, parts.test)
    )
    model = _trained(cell, recipe, home, manifest, labels, development) if cell.arm.needs_training else None
    if cell.test is not None:
        manifest, labels, tested = _elsewhere(cell.test, recipe, Store(home), parts.development)
    if model is not None and cell.arm.start == "given":
        lineage = open_model(model).info["lineage"]
        learned = set(lineage["label_groups"]) | set(lineage["pretrain_groups"])
        refuse_leak(trained_groups=learned, trained_digests=set(lineage["label_digests"]), evaluated=tested)
    cases = _scores(cell.arm, model, recipe, Store(home), manifest, labels, tested)
    return {"model": model.name if model else None, "cases": cases, "seconds": time.monotonic() - started}


def _elsewhere(
    keys: tuple[str, str], recipe: Recipe, store: Store, development: Sequence[Subject]
) -> tuple[Manifest, Labels, list[Subject]]:
    """Manifest, labels and labelled subjects of another folder.

    Raises:
        GateRefused: a group or image of it is in the development groups.
    """
    manifest, labels = read_manifest(store.path("manifest", keys[0])), read_labels(store, recipe, keys[1])
    subjects = [s for s in manifest.subjects if s.subject_id in labels.entries]
    groups, digests = {s.group_id for s in development}, {s.content_digest for s in development}
    refuse_leak(trained_groups=groups, trained_digests=digests, evaluated=subjects)
    return manifest, labels, subjects


def _trained(
    cell: Cell, recipe: Recipe, home: Path, manifest: Manifest, labels: Labels, development: Sequence[Subject]
) -> Path:
    """Folder of the cell's model."""
    encoder = _encoder(cell.arm, recipe, home)
    strata = strata_of(load(recipe.domain).heads[recipe.head], Store(home), labels, development)
    recipe = recipe.changed({"seed": str(recipe.seed + cell.draw)})  # the encoder is the same in every draw
    ordered = order(cell.arm.strategy, recipe, home, encoder, manifest, development, recipe.seed, strata)
    groups = ordered[: cell.label_budget]
    trained = finetune(recipe, home, encoder=encoder, label_budget=cell.label_budget, label_groups=groups)
    if cell.arm.taught and cell.label_budget:
        trained = finetune(recipe, home, encoder=encoder, label_groups=groups, teacher=trained.folder)
    return trained.folder


def _encoder(arm: Arm, recipe: Recipe, home: Path) -> Path | None:
    if arm.start == "given":
        return Path(arm.given)
    return pretrain(recipe, home).folder if arm.start == "pretrained" else None


def _scores(
    arm: Arm, model: Path | None, recipe: Recipe, store: Store, manifest: Manifest, labels: Labels,
    subjects: Sequence[Subject],
) -> list[dict[str, Any]]:  # fmt: skip
    """Each subject with its score, kept in the store; null where it is not defined."""
    head, loaded = load(recipe.domain).heads[recipe.head], open_model(model) if model else None
    pairs = sorted((s.entry, labels.entries[s.subject_id]) for s in subjects)
    judged = loaded.info["sha256"] if loaded else [head.name, arm.start, manifest.contract.input_rules()]

    def write(out: Path) -> dict[str, Any]:
        predict = predictor(loaded, arm.disturbed) if loaded else _rule(arm, head, manifest)
        cases = []
        with Progress(f"judge {arm.name}", len(subjects), unit="cases") as progress:
            for subject in subjects:
                entry = store.path("ingest", subject.entry)
                label = store.path("label", labels.entries[subject.subject_id])
                cases.append({"subject_id": subject.subject_id, "group_id": subject.group_id,
                              **_judged(head, predict(entry), entry, label)})  # fmt: skip
                progress.advance()
        return {"cases": cases}

    disturbed = [arm.disturbed, WORDS[arm.disturbed]] if arm.disturbed else []  # its words tell its strength
    key = store.key("scores", [judged, pairs, *(["details"] if head.of_sets else []), *disturbed])
    store.build("scores", key, write)
    cases: list[dict[str, Any]] = store.facts("scores", key)["cases"]
    return cases


def _judged(head: Head, prediction: Prediction, entry: Path, label: Path) -> dict[str, Any]:
    """The score by which cases are compared and, where that is no measure of a set, the details for one."""
    if not head.of_sets:
        score, details = head.primary_score(prediction, entry, label), {}
    else:
        metrics, found = head.score(prediction, entry, label)
        score, details = metrics[head.ranked_by], {"details": found}
    return {"score": score if math.isfinite(score) else None, **details}


def _rule(arm: Arm, head: Head, manifest: Manifest) -> Callable[[Path], Prediction]:
    rule = head.propose if arm.start == "proposal" and head.propose is not None else head.trivial
    return lambda entry: rule(entry, manifest.contract)
