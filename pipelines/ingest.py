"""ingest: a source folder -> checked, preprocessed subjects in the store and a manifest; every file gets a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domains.domain import Domain, Scan, load
from domains.erased import WHY, read_erased, without_erased
from domains.errors import NothingUsable, Refused, UsageError
from domains.identity import Identity
from domains.manifest import Contract, Labels, Manifest, Record, read_manifest
from domains.recipe import Recipe
from domains.store import Store, locked, write_atomically
from pipelines.dataset import Dataset, dataset_file, find_dataset, keep_dataset, read_labels
from pipelines.ingest_notes import answered, same_names, with_names
from pipelines.progress import Progress
from pipelines.taking import Taken, Taker
from pipelines.verdicts import by_verdict, one_verdict


@dataclass(frozen=True)
class Ingested:
    """What an archive gave; `refused` carries paths and is for the terminal only."""

    manifest: Path
    labels: Path | None
    manifest_digest: str
    counts: dict[str, int]
    refused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the person should know; with names, for the terminal only."""
    missing_channels: dict[str, int] = field(default_factory=dict)
    """Optional channels -> how many subjects of the dataset lack just these."""


@dataclass(frozen=True)
class Intake:
    """What a source folder gave, in the store but not yet the recipe's newest dataset."""

    manifest: Manifest
    labels: Labels
    dataset: Dataset
    refused: list[tuple[str, str]]
    """Path and reason, with names."""
    notes: list[str]


def ingest(source: Path, recipe: Recipe, home: Path, *, contract: Contract | None = None) -> Ingested:
    """Adds a source folder to the recipe's dataset; files that did not change since are not read again.

    Args:
        source: the folder.
        recipe: whose dataset it joins.
        home: whose store takes it.
        contract: of an encoder that is to be fine-tuned on a new dataset, which is then prepared as that encoder's
            was. Without it the archive's own fingerprint decides.

    Raises:
        UsageError: the source is not a folder.
        NothingUsable: no file of the dataset could be used.
    """
    home = Path(home)
    with locked(home / "locks" / f"dataset-{dataset_file(recipe, home).stem}"):
        previous = find_dataset(recipe, home)
        taken = take_in(Path(source), recipe, home, previous=previous, contract=contract)
        keep_dataset(taken.dataset, recipe, home)
    store = Store(home)
    return Ingested(
        manifest=store.path("manifest", taken.dataset.manifest),
        labels=store.path("labels", taken.dataset.labels) if taken.dataset.labels else None,
        manifest_digest=taken.manifest.digest,
        counts=taken.manifest.counts(),
        refused=taken.refused,
        notes=taken.notes,
        missing_channels=dict(Counter(_lacking(taken.manifest)).most_common()),
    )


def _lacking(manifest: Manifest) -> Iterator[str]:
    for subject in manifest.subjects:
        if (lacking := subject.facts.get("missing_channels", "none")) != "none":
            yield lacking


def take_in(
    source: Path, recipe: Recipe, home: Path, *, previous: Dataset | None = None, contract: Contract | None = None
) -> Intake:
    """Reads a source folder into the store.

    Args:
        source: the folder.
        recipe: whose domain reads it.
        home: whose store takes it.
        previous: a dataset to add to; its contract holds.
        contract: the contract to prepare with; planned from the source's fingerprint when there is none.
    """
    if not source.is_dir():
        raise UsageError(f"no folder at {source}")
    domain, store, identity, erased = load(recipe.domain), Store(home), Identity(), read_erased(home)
    scan, held = without_erased(domain.scan(source, recipe), identity, erased)
    old = read_manifest(store.path("manifest", previous.manifest)) if previous else None
    if old is not None and old.contract.version != domain.version:
        raise UsageError(
            f"this dataset was prepared by version {old.contract.version} of {domain.name}, the code is version "
            f"{domain.version}: remove {dataset_file(recipe, home)} and ingest its sources again"
        )
    contract = old.contract if old else _plan(domain, scan, recipe, contract)
    taker = Taker(domain, scan, source, recipe, contract, store, identity, erased, previous, old)
    taken: list[Taken] = []
    with Progress(f"ingest {recipe.name}", len(scan.candidates), unit="subjects") as progress:
        for one in taker.take(scan.candidates):
            taken.append(one)
            progress.advance()
    taken = _without_duplicates(taken, old, taker.names)
    taken.append(Taken([Record(file_id=taker.file_id(p), verdict="ignored", reason=why)
                         for p, why in sorted(scan.ignored.items())]))  # fmt: skip
    taken.append(Taken([Record(file_id=taker.file_id(p), verdict="refused", reason=why)
                         for p, why in sorted(scan.refused.items())],
                        refused=[(str(p), with_names(why, scan.alike.get(p, ())))
                                 for p, why in sorted(scan.refused.items())]))  # fmt: skip
    origin = identity.keyed("namespace", scan.namespace)
    stated = {} if scan.labels_only else {origin: scan.statement}
    taker.names |= dict.fromkeys(stated, scan.namespace)
    manifest = _merged(taken, old, recipe, contract, stated)
    refused = list(dict.fromkeys(pair for one in taken for pair in one.refused))
    if not manifest.subjects:
        reasons = "; ".join(sorted({reason for _, reason in refused})[:3]) or (WHY if held else scan.layout)
        raise NothingUsable(f"no usable file among {len(manifest.records)} in {source} ({reasons})")
    unnamed = taker.held - {t.subject.group_id for t in taken if t.subject} | {taker.file_id(path) for path in held}
    identity.remember({i: path for i, path in taker.names.items() if i not in unnamed}, taker.groups())
    labels = read_labels(store, recipe, previous.labels if previous else None)
    found = {t.subject.subject_id: t.label for t in taken if t.subject is not None and t.label is not None}
    labels = labels.model_copy(update={"entries": dict(sorted((labels.entries | found).items()))})
    dataset = Dataset(
        manifest=keep(store, "manifest", manifest.digest, manifest.model_dump_json(indent=1)),
        labels=keep(store, "labels", labels.digest, labels.model_dump_json(indent=1)) if labels.entries else None,
        files=(previous.files if previous else {}) | taker.stamps,
    )
    labelled = sum(one.label is not None for one in taken)
    notes = [answered(scan, labelled)] if scan.labels_only else same_names(scan, old, identity)
    notes += scan.notes
    records = {taker.names[r.file_id]: r for r in manifest.records if r.file_id in taker.names}
    refused, in_part = by_verdict(refused, records, taker.without)
    notes += in_part
    return Intake(manifest, labels, dataset, refused, notes)


def _plan(domain: Domain, scan: Scan, recipe: Recipe, like: Contract | None) -> Contract:
    """The contract from the fingerprint of the headers that can be read; `take` refuses the others with a reason.

    With `like`, its preprocessing holds and only the classes are the recipe's.
    """
    inspections, reasons = [], set(scan.refused.values())
    for candidate in scan.candidates:
        try:
            inspections.append(domain.inspect(candidate))
        except Refused as refusal:
            reasons.add(refusal.reason)
    if not inspections:
        why = "; ".join(sorted(reasons)[:3]) or scan.layout
        count = len(scan.candidates) + len(scan.refused)
        raise NothingUsable(f"none of {count} candidate files is usable ({why})")
    if scan.absent and like is None:
        raise UsageError(
            f"no subject has the channel {', '.join(scan.absent)} of the recipe ({scan.layout}): leave it out, name "
            "its files in a dataset.yaml, or begin with a folder that has it"
        )
    planned = domain.plan(inspections, recipe)
    return like.model_copy(update={"num_classes": planned.num_classes}) if like else planned


def _without_duplicates(taken: list[Taken], old: Manifest | None, paths: Mapping[str, str]) -> list[Taken]:
    """Refuses a subject whose decoded content another one already has, and leaves its label; the first stays."""
    first = {s.content_digest: s.subject_id for s in old.subjects} if old else {}
    kept = []
    for one in taken:
        if one.subject is not None:
            original = first.setdefault(one.subject.content_digest, one.subject.subject_id)
            if original != one.subject.subject_id:
                reason = f"same content as subject {original}"
                images = [Record(file_id=r.file_id, verdict="refused", reason=reason)
                          for r in one.records if r.verdict == "accepted"]  # fmt: skip
                rest = [Record(file_id=r.file_id, verdict="ignored", reason=f"its image has the {reason}")
                        for r in one.records if r.verdict != "accepted"]  # fmt: skip
                one = Taken(images + rest, refused=[(paths[r.file_id], reason) for r in images])
        kept.append(one)
    return kept


def _merged(
    taken: list[Taken], old: Manifest | None, recipe: Recipe, contract: Contract, source: dict[str, str]
) -> Manifest:
    records = {r.file_id: r for r in old.records} if old else {}
    subjects = {s.subject_id: s for s in old.subjects} if old else {}
    fresh: dict[str, list[Record]] = {}
    for one in taken:
        for record in one.records:
            fresh.setdefault(record.file_id, []).append(record)
        if one.subject is not None:
            subjects[one.subject.subject_id] = one.subject
    groups = {s.subject_id: s.group_id for s in subjects.values()}
    records |= {file_id: one_verdict(found, groups) for file_id, found in fresh.items()}
    return Manifest(
        recipe=recipe.name,
        contract=contract,
        sources=(old.sources if old else {}) | source,
        records=tuple(records[i] for i in sorted(records)),
        subjects=tuple(subjects[i] for i in sorted(subjects)),
    )


def keep(store: Store, stage: str, digest: str, text: str) -> str:
    """Store key of a manifest or of labels, written where they are not there yet."""
    key = store.key(stage, digest)

    def write(folder: Path) -> dict[str, Any]:
        write_atomically(folder / f"{stage}.json", text)
        return {"digest": digest}

    store.build(stage, key, write)
    return key
