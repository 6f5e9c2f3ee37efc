"""erase: a group -> nothing of it in the home but its keyed id, so that it stays out; says which models saw it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from domains.erased import WHY, Erased, Erasure, Seen, keep_erased, read_erased
from domains.errors import UsageError
from domains.identity import Identity
from domains.manifest import Labels, Manifest, Record, read_manifest
from domains.store import Store, locked, write_atomically
from pipelines.dataset import Dataset
from pipelines.ingest import keep
from pipelines.traces import pictures_of, put_back, seen_by, sweep

CACHES = ("drift", "embed", "expected", "figures", "glance", "pseudo")
"""Stages whose entries do not say whose they are: they go whole, and are computed again when they are asked for."""


@dataclass(frozen=True)
class Plan:
    """What of a group is in a home."""

    group_id: str
    subjects: tuple[str, ...]
    files: tuple[str, ...]
    """Ids of its files."""
    content_digests: tuple[str, ...]
    entries: tuple[tuple[str, str], ...]
    """Stage and store key of its arrays, outlines included."""
    manifests: tuple[str, ...]
    """Store keys of the manifests that list it."""
    others: tuple[str, ...]
    """Groups that hold the same pixels and other subjects besides, which stay."""
    seen: tuple[Seen, ...]
    pictures: tuple[str, ...] = field(default=(), repr=False)
    """Files and folders below the home that may show it without naming it, or hold a training that saw it."""

    @property
    def ids(self) -> frozenset[str]:
        return frozenset({self.group_id, *self.subjects})


def plan_erasure(group_id: str, home: Path) -> Plan:
    """What `erase` would remove, and what saw it; changes nothing. An erasure that was stopped is taken up.

    Raises:
        UsageError: the home does not know the group, or it is the id of a subject.
    """
    store, erased = Store(Path(home)), read_erased(home)
    manifests = {folder.name: read_manifest(folder) for folder in _entries(store, "manifest")}
    everyone = {(s.subject_id, s.group_id, s.content_digest, s.entry) for m in manifests.values() for s in m.subjects}
    before = erased.unfinished
    if before and group_id not in before["group"]:
        raise UsageError(f"the erasure of {before['group'][0]} was stopped half way: finish that one first")
    known = erased.groups.get(group_id)
    if not before and known is None and all(group != group_id for _, group, _, _ in everyone):
        groups = {group for subject, group, _, _ in everyone if subject == group_id}
        hint = f"; it is a subject of group {min(groups)}: erase that" if groups else "; `selfsight whois` tells ids"
        raise UsageError(f"no group {group_id} in {home}{hint}")
    digests = {digest for _, group, digest, _ in everyone if group == group_id}
    digests |= set(known.content_digests if known else ()) | set(before.get("content_digests", ()))
    gone = {one for one in everyone if one[1] == group_id or one[2] in digests}
    subjects = {subject for subject, _, _, _ in gone} | set(before.get("subjects", ()))
    listing = [key for key, manifest in manifests.items() if any(s.subject_id in subjects for s in manifest.subjects)]
    files = {r.file_id for m in manifests.values() for r in m.records if _spoken_of(r, subjects)}
    entries = {("ingest", entry) for _, _, _, entry in gone}
    for folder in _entries(store, "labels"):
        found = _labels(folder).entries
        entries |= {("label", found[subject]) for subject in subjects & found.keys()}
    entries |= {(stage, key) for stage in ("ingest", "label") for key in before.get(stage, ())}
    seen = {one.folder: one for one in seen_by({group_id, *subjects}, store)}
    seen |= {one.folder: one for one in (known.seen if known else ())}  # told before their lineage lost the group
    pictures = {*pictures_of(seen.values(), listing, store), *before.get("pictures", ())}
    return Plan(
        group_id, tuple(sorted(subjects)), tuple(sorted(files | set(before.get("files", ())))), tuple(sorted(digests)),
        tuple(sorted(entries)), tuple(listing), tuple(sorted({group for _, group, _, _ in gone} - {group_id})),
        tuple(seen.values()), tuple(sorted(pictures)),
    )  # fmt: skip


def erase(plan: Plan, home: Path) -> list[str]:
    """Removes what a plan lists from the home and from the book of names; killed half way, a new plan goes on.

    The group's id is on the list of erased ones before anything is removed, so that no ingest brings it back.

    Returns:
        Files that still name it and could not be cleaned, below the home; there should be none.

    Raises:
        UsageError: something is running in the home.
    """
    home = Path(home)
    refuse_while_busy(home)
    store = Store(home)
    with locked(home / "locks" / "erase"):
        today = datetime.now(UTC).date().isoformat()
        listed = Erasure(since=today, content_digests=plan.content_digests, seen=plan.seen)
        erased = read_erased(home)
        erased = Erased(groups=erased.groups | {plan.group_id: listed}, unfinished=_notes(plan))
        keep_erased(erased, home)
        _take_off_the_lists(store, plan)
        for stage, key in plan.entries:
            store.remove(stage, key)
        for stage in CACHES:
            for key in [folder.name for folder in _entries(store, stage)]:
                store.remove(stage, key)
        left = sweep(home, plan.ids, plan.pictures)
        Identity().forget({*plan.ids, *plan.files}, {plan.group_id})
        keep_erased(erased.model_copy(update={"unfinished": {}}), home)
    return left


def lift(group_id: str, home: Path) -> None:
    """Takes a group off the list, so that an ingest of its source takes it in again; by itself nothing comes back.

    Raises:
        UsageError: it is not on the list, or not wholly erased yet.
    """
    erased = read_erased(home)
    if group_id not in erased.groups or erased.unfinished:
        raise UsageError(f"{group_id} is not among the erased groups of {home}, or one was stopped half way")
    put_back(group_id, erased.groups[group_id].seen, Path(home))
    keep_erased(Erased(groups={i: one for i, one in erased.groups.items() if i != group_id}), home)


def refuse_while_busy(home: Path) -> None:
    """Raises UsageError where any lock of the home is held: what runs would write the group down again."""
    for path in [*(home / "locks").glob("*"), *(home / "runs").glob("*/lock")]:
        with open(path, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"something is running in {home} (it holds {path.relative_to(home)}): wait for it or stop it"
                ) from None


def _notes(plan: Plan) -> dict[str, tuple[str, ...]]:
    """What a later plan could not find any more once the manifests are without the group."""
    by_stage = {stage: tuple(key for s, key in plan.entries if s == stage) for stage in ("ingest", "label")}
    return {"group": (plan.group_id,), "subjects": plan.subjects, "files": plan.files, "pictures": plan.pictures,
            "content_digests": plan.content_digests, **by_stage}  # fmt: skip


def _take_off_the_lists(store: Store, plan: Plan) -> None:
    """Every manifest and list of labels without the group, under its old key and its own; datasets point to the new.

    A model names the manifest it grew from by the old key, which must go on to be found.
    """
    for folder in _entries(store, "manifest"):
        _replace(store, "manifest", folder, shorter := _without(read_manifest(folder), plan), shorter.digest)
    for folder in _entries(store, "labels"):
        labels = _labels(folder)
        left = {subject: key for subject, key in labels.entries.items() if subject not in plan.subjects}
        fewer = labels.model_copy(update={"entries": left})
        _replace(store, "labels", folder, fewer, fewer.digest)
    for file in sorted((store.home / "datasets").glob("*.json")):
        with locked(store.home / "locks" / f"dataset-{file.stem}"):
            dataset = Dataset.model_validate_json(file.read_text())
            manifest = read_manifest(store.path("manifest", dataset.manifest))
            found = _labels(store.path("labels", dataset.labels)) if dataset.labels else None
            changed = {
                "manifest": store.key("manifest", manifest.digest),
                "labels": store.key("labels", found.digest) if found and found.entries else None,
                "files": {i: stamp for i, stamp in dataset.files.items() if i not in plan.files},
            }
            write_atomically(file, dataset.model_copy(update=changed).model_dump_json(indent=1))


def _without(manifest: Manifest, plan: Plan) -> Manifest:
    """As an ingest that holds the group back would have made it: its files are there, as ignored ones."""

    def mine(record: Record) -> bool:
        return record.file_id in plan.files or _spoken_of(record, plan.ids)

    records = [
        Record(file_id=record.file_id, verdict="ignored", reason=WHY) if mine(record) else record
        for record in manifest.records
    ]
    subjects = tuple(s for s in manifest.subjects if s.subject_id not in plan.subjects)
    return manifest.model_copy(update={"subjects": subjects, "records": tuple(records)})


def _spoken_of(record: Record, ids: Collection[str]) -> bool:
    """Whether a record is about one of these ids: its file, or another one with the same image."""
    return record.subject_id in ids or any(i in record.reason for i in ids)


def _replace(store: Store, stage: str, folder: Path, shorter: Manifest | Labels, digest: str) -> None:
    text = shorter.model_dump_json(indent=1)
    if (folder / f"{stage}.json").read_text() != text:
        keep(store, stage, digest, text)
        write_atomically(folder / f"{stage}.json", text)
        write_atomically(folder / "entry.json", json.dumps({"digest": digest}))


def _entries(store: Store, stage: str) -> Iterator[Path]:
    return iter(sorted(path.parent for path in (store.home / "store" / stage).glob("*/entry.json")))


def _labels(folder: Path) -> Labels:
    return Labels.model_validate_json((folder / "labels.json").read_text())
