"""drift: new data against training data -> is it still of the distribution that the model was trained on?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domains.errors import NothingUsable, UsageError
from domains.manifest import Manifest, Subject, read_manifest
from domains.recipe import Recipe
from domains.store import Missing, Store
from pipelines.dataset import open_dataset
from pipelines.drift_figures import crop_figures, crop_names, quality_figures
from pipelines.drift_judge import FEWEST_GROUPS, Looks, judge, looks_of, spread_evenly
from pipelines.drift_picture import draw
from pipelines.embed import embeddings
from pipelines.ingest import take_in
from pipelines.models import open_model
from pipelines.pretrain import pretrain

LEVEL = 0.05
"""Chance of an alarm when nothing has changed, of all tests together."""
MOST_SUBJECTS = 500
"""Of the training data, and of the new data, spread evenly over groups: each costs about a third of a second, once."""


@dataclass(frozen=True)
class DriftResult:
    """A look for drift, in the store; `result` is its `drift.json`."""

    alarm: bool
    """The new data differs by more than chance explains: find out what changed, and train again with it."""
    folder: Path
    result: dict[str, Any]
    cached: bool

    @property
    def picture(self) -> Path:
        return self.folder / "drift.png"

    def to_json(self) -> dict[str, Any]:
        return {**self.result, "drift": str(self.folder), "picture": str(self.picture), "cached": self.cached}


def drift(
    recipe: Recipe, home: Path, *, source: Path, model: Path | None = None, level: float = LEVEL
) -> DriftResult:  # fmt: skip
    """Compares new data with training data: intensity and quality figures, and what an encoder makes of the subjects.

    New files are prepared as the training data was, and stay outside the recipe's dataset. What the training data has
    already is not new. Where the facts tell sites, cameras or views apart, each is compared by itself as well.

    Args:
        recipe: whose newest dataset is the training data, unless a model is named.
        home: the store.
        source: a folder of raw files, or a manifest (a file or a store entry).
        model: a model or encoder folder: it is compared with what that was trained on, as its encoder sees it. Without
            one, the encoder is what `pretrain` gave for the recipe; without that, it has random weights.
        level: chance of an alarm when nothing has changed.

    Raises:
        UsageError: no training data, or nothing at the source.
        NothingUsable: nothing new at the source, or fewer than three training groups.
        ContractMismatch: the manifest was prepared in another way.
    """
    store = Store(Path(home))
    loaded = open_model(model) if model is not None else None
    if loaded is not None:
        recipe = loaded.recipe
        trained, _ = open_dataset(recipe, store.home, store.path("manifest", loaded.info["lineage"]["manifest"]))
    else:
        trained, _ = open_dataset(recipe, store.home)
    encoder = model or _pretrained(recipe, store.home)
    found, refused = _open(Path(source), recipe, store.home, trained)
    new = _unknown(found, trained)
    mine, theirs = (spread_evenly(subjects, MOST_SUBJECTS) for subjects in (trained.subjects, new))
    if len({subject.group_id for subject in mine}) < FEWEST_GROUPS:
        raise NothingUsable(f"the training data has fewer than {FEWEST_GROUPS} groups to measure differences by")
    weights = open_model(encoder).info["sha256"] if encoder else "random"
    compared = [sorted((s.entry, s.group_id) for s in subjects) for subjects in (mine, theirs)]
    key = store.key("drift", [recipe.digest(), weights, level, compared])
    cached = store.get("drift", key) is not None
    about = {
        "schema_version": 1, "recipe": recipe.name, "level": level, "encoder": weights[:16],
        "trained": _counts(trained.subjects, mine),
        "new": _counts(new, theirs) | {"refused": refused, "known": len(found.subjects) - len(new)},
    }  # fmt: skip

    def write(out: Path) -> dict[str, Any]:
        looks = look(store.home, recipe, encoder, trained, mine, theirs)
        result = about | judge(looks, mine, theirs, level)
        (out / "drift.png").write_bytes(draw(result, looks, [subject.subject_id for subject in theirs]))
        (out / "drift.json").write_text(json.dumps(result, indent=1))
        return {"alarm": result["alarm"]}

    folder = store.build("drift", key, write)
    result = json.loads((folder / "drift.json").read_text())
    return DriftResult(result["alarm"], folder, result, cached)


def look(
    home: Path, recipe: Recipe, encoder: Path | None, manifest: Manifest, trained: Sequence[Subject],
    new: Sequence[Subject],
) -> Looks:  # fmt: skip
    """What is compared: quality figures of the manifests, figures of the crops, and embeddings."""
    names, *measured = quality_figures(trained, new)
    shown = [crop_figures(home, recipe, manifest.contract, subjects) for subjects in (trained, new)]
    mine, theirs = (np.hstack(pair).astype(np.float64) for pair in zip(measured, shown, strict=True))
    seen = [embeddings(encoder, home, recipe, manifest, subjects) for subjects in (trained, new)]
    return looks_of([*names, *crop_names(manifest.contract)], (mine, theirs), (seen[0], seen[1]))


def _open(source: Path, recipe: Recipe, home: Path, trained: Manifest) -> tuple[Manifest, int]:
    """The manifest of the new data, and how many of its files were refused."""
    if not source.exists():
        raise UsageError(f"no folder and no manifest at {source}")
    if source.is_file() or (source / "manifest.json").is_file():
        manifest = read_manifest(source)
    else:
        manifest = take_in(source, recipe, home, contract=trained.contract).manifest
    trained.contract.check(manifest.contract, mine="the training data", theirs="the new data")
    return manifest, manifest.counts()["refused"]


def _unknown(found: Manifest, trained: Manifest) -> list[Subject]:
    """The subjects whose image the training data does not have.

    Raises:
        NothingUsable: there is none.
    """
    known = {subject.content_digest for subject in trained.subjects}
    new = [subject for subject in found.subjects if subject.content_digest not in known]
    if not new:
        raise NothingUsable(f"nothing new: the training data has all {len(found.subjects)} subjects already")
    return new


def _pretrained(recipe: Recipe, home: Path) -> Path | None:
    """The encoder that `pretrain` gave for the recipe and its newest data, if it did."""
    try:
        with Store.only_looking():
            return pretrain(recipe, home, continued=True).folder  # the last encoder, however it was made
    except Missing:
        return None


def _counts(subjects: Sequence[Subject], looked_at: Sequence[Subject]) -> dict[str, int]:
    return {"subjects": len(subjects), "groups": len({s.group_id for s in subjects}), "looked_at": len(looked_at)}
