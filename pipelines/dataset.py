"""The named dataset of a recipe in a home: which manifest and labels are the newest, and which files they saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from domains.errors import UsageError
from domains.head import Head
from domains.manifest import Labels, Manifest, Subject, read_manifest
from domains.recipe import Frozen, Recipe
from domains.store import Store, write_atomically


class Dataset(Frozen):
    """`<home>/datasets/<recipe>-<data settings>.json`: pointers into the store."""

    manifest: str
    """Store key of stage "manifest"."""
    labels: str | None = None
    """Store key of stage "labels"."""
    files: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """File id -> (bytes, mtime in ns) when it was last read: an unchanged file is not read again."""


def dataset_file(recipe: Recipe, home: Path) -> Path:
    """Recipes that cut the data differently have datasets of their own."""
    return Path(home) / "datasets" / f"{recipe.name}-{recipe.digest('data')[:8]}.json"


def find_dataset(recipe: Recipe, home: Path) -> Dataset | None:
    """The newest dataset of a recipe, or None before the first ingest."""
    file = dataset_file(recipe, home)
    return Dataset.model_validate_json(file.read_text()) if file.exists() else None


def keep_dataset(dataset: Dataset, recipe: Recipe, home: Path) -> None:
    """Makes `dataset` the newest."""
    file = dataset_file(recipe, home)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, dataset.model_dump_json(indent=1))


def open_dataset(recipe: Recipe, home: Path, data: Path | None = None) -> tuple[Manifest, Labels]:
    """The manifest that `data` names (a file or a store entry), or the newest one, and the newest labels.

    Raises:
        UsageError: nothing was ingested for this recipe.
    """
    dataset = find_dataset(recipe, home)
    if dataset is None and data is None:
        raise UsageError(f"no data for {recipe.name} in {home}; run `selfsight ingest {recipe.name} SOURCE` first")
    store = Store(home)
    if data is not None:
        if not data.exists():
            raise UsageError(f"no manifest at {data}")
        manifest = read_manifest(data)
    else:
        assert dataset is not None
        manifest = read_manifest(store.path("manifest", dataset.manifest))
    return manifest, read_labels(store, recipe, dataset.labels if dataset else None)


def read_labels(store: Store, recipe: Recipe, key: str | None) -> Labels:
    """The labels of a store key; none for None."""
    if key is None:
        return Labels(recipe=recipe.name, entries={})
    return Labels.model_validate_json((store.path("labels", key) / "labels.json").read_text())


def subject_entries(store: Store, subjects: Sequence[Subject]) -> list[Path]:
    """Folders of the subjects in the store."""
    return [store.path("ingest", subject.entry) for subject in subjects]


def label_entries(store: Store, labels: Labels, subjects: Sequence[Subject]) -> list[Path]:
    """Folders of the subjects' labels in the store, in the order of the subjects."""
    return [store.path("label", labels.entries[subject.subject_id]) for subject in subjects]


def strata_of(head: Head, store: Store, labels: Labels, subjects: Sequence[Subject]) -> dict[str, int] | None:
    """Group -> the highest class of its labelled subjects, or None where the head's labels are no classes."""
    if head.stratum is None:
        return None
    found: dict[str, int] = {}
    labelled = [s for s in subjects if s.subject_id in labels.entries]
    for subject, entry in zip(labelled, label_entries(store, labels, labelled), strict=True):
        found[subject.group_id] = max(found.get(subject.group_id, 0), head.stratum(entry))
    return found
