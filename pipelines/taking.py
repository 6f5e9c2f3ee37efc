"""Taking: what becomes of one candidate of a source folder, here or in another process, and who answers to which id."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domains.domain import Candidate, Domain, Scan
from domains.erased import WHY, Erased
from domains.errors import Refused
from domains.identity import Identity
from domains.manifest import Contract, Manifest, Record, Subject
from domains.recipe import Recipe
from domains.splits import split_bucket
from domains.store import Store, room_for
from pipelines.dataset import Dataset, read_labels
from pipelines.fan_out import map_files


@dataclass
class Taken:
    """What became of one candidate."""

    records: list[Record]
    subject: Subject | None = None
    label: str | None = None
    refused: list[tuple[str, str]] = field(default_factory=list)
    held: bool = False
    """It was erased under another name."""
    joins: bool = False
    """Its image is that of `subject`, which the dataset has from another place."""
    without: str = ""
    """Why its label was not taken."""


@dataclass(frozen=True)
class Named:
    """A candidate and the ids that stand for its names: a worker has no key."""

    candidate: Candidate
    subject_id: str
    group_id: str
    split_bucket: int
    ids: Mapping[str, str]
    """Of its files: channel, or "label" -> file id."""

    @property
    def files(self) -> dict[str, Path]:
        """File id -> path."""
        label = {"label": self.candidate.label} if self.candidate.label else {}
        return {self.ids[name]: path for name, path in {**self.candidate.images, **label}.items()}

    @property
    def images(self) -> list[str]:
        """File ids of its images."""
        return [self.ids[name] for name in self.candidate.images]


@dataclass(frozen=True)
class Reader:
    """Reads, checks and prepares one candidate into the store; the same twice does nothing new."""

    domain: Domain
    recipe: Recipe
    contract: Contract
    store: Store
    labels_only: bool
    erased_digests: frozenset[str]
    known_content: Mapping[str, Subject]
    """Content digest -> the subject that the dataset has."""

    def __call__(self, named: Named) -> Taken:
        """The verdicts of the candidate's files."""
        candidate, scratch = named.candidate, Path(tempfile.gettempdir())
        try:
            with room_for(scratch, scratch / "nothing"):
                raw = self.domain.read(candidate, self.recipe)
            if raw.digest in self.erased_digests:
                return Taken([], held=True)
            known = self.known_content.get(raw.digest)
            if known is None and self.labels_only:
                raise Refused("no image of the dataset is the same, and only labels are taken from this folder")
            if known is not None and known.subject_id != named.subject_id and (candidate.label or self.labels_only):
                return self._known_image(named, raw, known)
            key = self._write(raw)
        except Refused as refusal:
            records = [Record(file_id=i, verdict="refused", reason=refusal.reason) for i in named.images]
            if candidate.label:
                reason = "its image was refused"
                records.append(Record(file_id=named.ids["label"], verdict="ignored", reason=reason))
            return Taken(records, refused=[(str(p), refusal.reason) for p in candidate.images.values()])
        subject = Subject(
            subject_id=named.subject_id, group_id=named.group_id, split_bucket=named.split_bucket, entry=key,
            content_digest=raw.digest, facts=self.store.facts("ingest", key),
        )  # fmt: skip
        records = [Record(file_id=i, verdict="accepted", subject_id=subject.subject_id) for i in named.images]
        return self._with_label(named, raw, Taken(records, subject))

    def _write(self, raw: Any) -> str:
        rules = self.contract.model_dump(mode="json", exclude={"num_classes"})
        parts = {"contract": rules, "content": raw.digest}
        if stated := getattr(raw, "stated", None):
            parts["stated"] = stated
        key = self.store.key("ingest", parts)
        self.store.build("ingest", key, lambda folder: self.domain.write(raw, self.contract, folder))
        return key

    def _known_image(self, named: Named, raw: Any, known: Subject) -> Taken:
        """An image that the dataset has from another place: its label joins the subject that is there."""
        reason = f"the image of subject {known.subject_id}, which is in the dataset already"
        records = [Record(file_id=i, verdict="ignored", reason=reason, subject_id=known.subject_id)
                   for i in named.images]  # fmt: skip
        return self._with_label(named, raw, Taken(records, known, joins=True))

    def _with_label(self, named: Named, raw: Any, taken: Taken) -> Taken:
        path = named.candidate.label
        if not path:
            return taken
        assert taken.subject is not None
        try:
            label = self.domain.read_label(named.candidate, raw, self.contract)
        except Refused as refusal:
            taken.records.append(Record(file_id=named.ids["label"], verdict="refused", reason=refusal.reason))
            taken.refused.append((str(path), refusal.reason))
            taken.without = refusal.reason
            return taken
        parts = {"contract": self.contract.model_dump(mode="json"), "image": raw.digest, "label": label.digest}
        key = self.store.key("label", parts)
        self.store.build("label", key, lambda folder: self.domain.write_label(label, self.contract, folder))
        subject_id = taken.subject.subject_id
        taken.records.append(Record(file_id=named.ids["label"], verdict="label", subject_id=subject_id))
        taken.label = key
        return taken


class Taker:
    """Turns candidates into store entries, and keeps the books: names, stamps, which group an id belongs to."""

    def __init__(
        self, domain: Domain, scan: Scan, source: Path, recipe: Recipe, contract: Contract, store: Store,
        identity: Identity, erased: Erased, previous: Dataset | None, old: Manifest | None,
    ) -> None:  # fmt: skip
        self.scan, self.source, self.store, self.identity = scan, source, store, identity
        self.known_stamps = previous.files if previous else {}
        self.known_records = {r.file_id: r for r in old.records} if old else {}
        self.known_subjects = {s.subject_id: s for s in old.subjects} if old else {}
        self.known_labels = read_labels(store, recipe, previous.labels if previous else None).entries
        self.reader = Reader(
            domain, recipe, contract, store, scan.labels_only, frozenset(erased.content_digests),
            {s.content_digest: s for s in old.subjects} if old else {},
        )  # fmt: skip
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

    def take(self, candidates: Sequence[Candidate]) -> Iterator[Taken]:
        """What became of each, in order; those that changed are read by many workers."""
        named = [self._name(candidate) for candidate in candidates]
        unchanged = [self._unchanged(one) for one in named]
        fresh = map_files(self.reader, (one for one, known in zip(named, unchanged, strict=True) if known is None))
        for one, known in zip(named, unchanged, strict=True):
            yield known if known is not None else self._noted(one, next(fresh))

    def file_id(self, path: Path) -> str:
        relative = path.relative_to(self.source) if path.is_relative_to(self.source) else path
        found = self.identity.keyed("file", self.scan.namespace, str(relative))
        self.names[found] = str(path.absolute())
        return found

    def groups(self) -> dict[str, str]:
        """Id -> group id; a file that several groups share (a table) is nobody's."""
        return {i: next(iter(groups)) for i, groups in self.belongs.items() if len(groups) == 1}

    def _name(self, candidate: Candidate) -> Named:
        namespace = self.scan.namespace
        subject_id = self.identity.keyed("subject", namespace, candidate.name)
        group_id = self.identity.keyed("group", namespace, candidate.group)
        files = {**candidate.images, **({"label": candidate.label} if candidate.label else {})}
        ids = {name: self.file_id(path) for name, path in files.items()}
        if not self.scan.labels_only:
            self.names[subject_id] = f"{self.source.absolute()}: {candidate.name}"
            self.names[group_id] = f"{namespace}: {candidate.group}"
            self._belong(group_id, [subject_id, group_id, *ids.values()])
        return Named(candidate, subject_id, group_id, split_bucket(namespace, candidate.group), ids)

    def _belong(self, group_id: str, ids: Iterable[str]) -> None:
        for one in ids:
            self.belongs.setdefault(one, set()).add(group_id)

    def _unchanged(self, named: Named) -> Taken | None:
        """The previous outcome when no file of the candidate changed and its entries are still there."""
        stamps = {i: (path.stat().st_size, path.stat().st_mtime_ns) for i, path in named.files.items()}
        if self.scan.labels_only or (found := self._previous(named, stamps)) is None:
            self.stamps |= stamps
            return None
        return found

    def _previous(self, named: Named, stamps: Mapping[str, tuple[int, int]]) -> Taken | None:
        records = [self.known_records[i] for i in stamps if i in self.known_records]
        if len(records) < len(stamps) or any(tuple(self.known_stamps.get(i, ())) != s for i, s in stamps.items()):
            return None
        subject, label = self.known_subjects.get(named.subject_id), self.known_labels.get(named.subject_id)
        if subject is not None and self.store.get("ingest", subject.entry) is None:
            return None
        if label is not None and self.store.get("label", label) is None:
            return None
        refused = [(str(named.files[r.file_id]), r.reason) for r in records if r.verdict == "refused"]
        return Taken(records, subject, label if subject else None, refused)

    def _noted(self, named: Named, taken: Taken) -> Taken:
        """The books after a candidate was read."""
        if taken.held:  # what was erased under another name is not taken, and its names are not written down
            own = [i for i, path in named.files.items() if path not in self.tables]
            self.held |= {named.subject_id, named.group_id, *own}
            taken.records = [Record(file_id=i, verdict="ignored", reason=WHY) for i in own]
        if taken.joins and taken.subject is not None:
            self._belong(taken.subject.group_id, named.ids.values())
        if taken.without:
            pair = (str(named.candidate.label), taken.without)
            self.without.setdefault(pair, []).append(named.candidate.name)
        return taken
