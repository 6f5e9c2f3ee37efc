"""ingest: a source folder -> checked, preprocessed subjects in the store and a manifest; every file gets a verdict."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from domains.domain import Candidate, Domain, Scan, load
from domains.erased import WHY, Erased, read_erased, without_erased
from domains.errors import NothingUsable, Refused, UsageError
from domains.identity import Identity
from domains.manifest import Contract, Labels, Manifest, Record, Subject, read_manifest
from domains.recipe import Recipe
from domains.splits import split_bucket
from domains.store import Store, locked, write_atomically
from pipelines.dataset import Dataset, dataset_file, find_dataset, keep_dataset, read_labels
from pipelines.ingest_notes import answered, same_names, with_names
from pipelines.progress import Progress
from pipelines.verdicts import by_verdict, one_verdict

Item = TypeVar("Item")
Result = TypeVar("Result")


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


@dataclass
class _Taken:
    """What became of one candidate."""

    records: list[Record]
    subject: Subject | None = None
    label: str | None = None
    refused: list[tuple[str, str]] = field(default_factory=list)


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
    taker = _Taker(domain, scan, source, recipe, contract, store, identity, erased, previous, old)
    taken: list[_Taken] = []
    with Progress(f"ingest {recipe.name}", len(scan.candidates), unit="subjects") as progress:
        for one in in_order(taker.take, scan.candidates):
            taken.append(one)
            progress.advance()
    taken = _without_duplicates(taken, old, taker.names)
    taken.append(_Taken([Record(file_id=taker.file_id(p), verdict="ignored", reason=why)
                         for p, why in sorted(scan.ignored.items())]))  # fmt: skip
    taken.append(_Taken([Record(file_id=taker.file_id(p), verdict="refused", reason=why)
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


class _Taker:
    """Turns candidates into store entries; safe to call from several threads."""

    def __init__(
        self, domain: Domain, scan: Scan, source: Path, recipe: Recipe, contract: Contract, store: Store,
        identity: Identity, erased: Erased, previous: Dataset | None, old: Manifest | None,
    ) -> None:  # fmt: skip
        self.domain, self.scan, self.source, self.recipe = domain, scan, source, recipe
        self.contract, self.store, self.identity = contract, store, identity
        self.erased_digests = erased.content_digests
        self.known_stamps = previous.files if previous else {}
        self.known_records = {r.file_id: r for r in old.records} if old else {}
        self.known_subjects = {s.subject_id: s for s in old.subjects} if old else {}
        self.known_content = {s.content_digest: s for s in old.subjects} if old else {}
        self.known_labels = read_labels(store, recipe, previous.labels if previous else None).entries
        self.names: dict[str, str] = {}
        self.belongs: dict[str, set[str]] = {}
        """Id -> the groups whose candidates have it."""
        self.held: set[str] = set()
        """Ids of candidates that were erased under another name."""
        labels = Counter(candidate.label for candidate in scan.candidates)
        self.tables = {path for path, count in labels.items() if path is not None and count > 1}
        self.stamps: dict[str, tuple[int, int]] = {}
        self.without: dict[tuple[str, str], list[str]] = {}
        """(label, why) -> names of the candidates that get none from it."""

    def file_id(self, path: Path) -> str:
        relative = path.relative_to(self.source) if path.is_relative_to(self.source) else path
        found = self.identity.keyed("file", self.scan.namespace, str(relative))
        self.names[found] = str(path.absolute())
        return found

    def groups(self) -> dict[str, str]:
        """Id -> group id; a file that several groups share (a table) is nobody's."""
        return {i: next(iter(groups)) for i, groups in self.belongs.items() if len(groups) == 1}

    def take(self, candidate: Candidate) -> _Taken:
        namespace = self.scan.namespace
        subject_id = self.identity.keyed("subject", namespace, candidate.name)
        group_id = self.identity.keyed("group", namespace, candidate.group)
        if not self.scan.labels_only:
            self.names[subject_id] = f"{self.source.absolute()}: {candidate.name}"
            self.names[group_id] = f"{namespace}: {candidate.group}"
        files = {**candidate.images, **({"label": candidate.label} if candidate.label else {})}
        ids = {name: self.file_id(path) for name, path in files.items()}
        paths = {ids[name]: path for name, path in files.items()}
        if not self.scan.labels_only:
            self._belong(group_id, [subject_id, group_id, *ids.values()])
        stamps = {i: (path.stat().st_size, path.stat().st_mtime_ns) for i, path in paths.items()}
        if not self.scan.labels_only and (unchanged := self._unchanged(subject_id, stamps, paths)) is not None:
            return unchanged
        self.stamps |= stamps
        images = [ids[name] for name in candidate.images]
        try:
            raw = self.domain.read(candidate, self.recipe)
            if raw.digest in self.erased_digests:
                return self._hold(subject_id, group_id, paths)
            known = self.known_content.get(raw.digest)
            if known is None and self.scan.labels_only:
                raise Refused("no image of the dataset is the same, and only labels are taken from this folder")
            if known is not None and known.subject_id != subject_id and (candidate.label or self.scan.labels_only):
                return self._known_image(candidate, ids, raw, known)
            rules = self.contract.model_dump(mode="json", exclude={"num_classes"})
            parts = {"contract": rules, "content": raw.digest}
            if stated := getattr(raw, "stated", None):
                parts["stated"] = stated
            key = self.store.key("ingest", parts)
            self.store.build("ingest", key, lambda folder: self.domain.write(raw, self.contract, folder))
        except Refused as refusal:
            records = [Record(file_id=i, verdict="refused", reason=refusal.reason) for i in images]
            if candidate.label:
                records.append(Record(file_id=ids["label"], verdict="ignored", reason="its image was refused"))
            return _Taken(records, refused=[(str(p), refusal.reason) for p in candidate.images.values()])
        subject = Subject(
            subject_id=subject_id,
            group_id=group_id,
            split_bucket=split_bucket(namespace, candidate.group),
            entry=key,
            content_digest=raw.digest,
            facts=self.store.facts("ingest", key),
        )
        taken = _Taken([Record(file_id=i, verdict="accepted", subject_id=subject_id) for i in images], subject)
        if candidate.label:
            self._take_label(candidate, candidate.label, ids["label"], raw, taken)
        return taken

    def _belong(self, group_id: str, ids: Iterable[str]) -> None:
        for one in ids:
            self.belongs.setdefault(one, set()).add(group_id)

    def _hold(self, subject_id: str, group_id: str, paths: Mapping[str, Path]) -> _Taken:
        """What was erased under another name is not taken, and its names are not written down."""
        own = [i for i, path in paths.items() if path not in self.tables]
        self.held |= {subject_id, group_id, *own}
        return _Taken([Record(file_id=i, verdict="ignored", reason=WHY) for i in own])

    def _known_image(self, candidate: Candidate, ids: dict[str, str], raw: Any, known: Subject) -> _Taken:
        """An image that the dataset has from another place: its label joins the subject that is there."""
        self._belong(known.group_id, ids.values())
        reason = f"the image of subject {known.subject_id}, which is in the dataset already"
        about = Record(file_id="", verdict="ignored", reason=reason, subject_id=known.subject_id)
        taken = _Taken([about.model_copy(update={"file_id": ids[name]}) for name in candidate.images], known)
        if candidate.label:
            self._take_label(candidate, candidate.label, ids["label"], raw, taken)
        return taken

    def _take_label(self, candidate: Candidate, path: Path, file_id: str, raw: Any, taken: _Taken) -> None:
        assert taken.subject is not None
        try:
            label = self.domain.read_label(candidate, raw, self.contract)
        except Refused as refusal:
            taken.records.append(Record(file_id=file_id, verdict="refused", reason=refusal.reason))
            taken.refused.append((str(path), refusal.reason))
            self.without.setdefault((str(path), refusal.reason), []).append(candidate.name)
            return
        parts = {"contract": self.contract.model_dump(mode="json"), "image": raw.digest, "label": label.digest}
        key = self.store.key("label", parts)
        self.store.build("label", key, lambda folder: self.domain.write_label(label, self.contract, folder))
        taken.records.append(Record(file_id=file_id, verdict="label", subject_id=taken.subject.subject_id))
        taken.label = key

    def _unchanged(self, subject_id: str, stamps: dict[str, tuple[int, int]], paths: dict[str, Path]) -> _Taken | None:
        """The previous outcome when no file of the candidate changed and its entries are still there."""
        records = [self.known_records[i] for i in stamps if i in self.known_records]
        if len(records) < len(stamps) or any(tuple(self.known_stamps.get(i, ())) != s for i, s in stamps.items()):
            return None
        subject, label = self.known_subjects.get(subject_id), self.known_labels.get(subject_id)
        if subject is not None and self.store.get("ingest", subject.entry) is None:
            return None
        if label is not None and self.store.get("label", label) is None:
            return None
        refused = [(str(paths[r.file_id]), r.reason) for r in records if r.verdict == "refused"]
        return _Taken(records, subject, label if subject else None, refused)


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


def _without_duplicates(taken: list[_Taken], old: Manifest | None, paths: Mapping[str, str]) -> list[_Taken]:
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
                one = _Taken(images + rest, refused=[(paths[r.file_id], reason) for r in images])
        kept.append(one)
    return kept


def _merged(
    taken: list[_Taken], old: Manifest | None, recipe: Recipe, contract: Contract, source: dict[str, str]
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


def in_order(do: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None) -> Iterator[Result]:
    """`do(item)` for every item from a few threads, results in the items' order, at most 2 per thread in flight."""
    threads = threads or len(os.sched_getaffinity(0))
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(do, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
