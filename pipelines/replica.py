"""Replica: the store of a home in S3-compatible storage, consistent at every moment, verified on the way back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from domains.errors import SelfsightError, UsageError
from domains.store import STAGE_VERSIONS, Store, write_atomically
from pipelines.checkpoint import digest_of_file
from pipelines.dataset import Dataset
from pipelines.fan_out import in_order
from pipelines.progress import Progress

THREADS = 8
POINTING = ("manifest", "labels", "pretrain", "finetune", "evaluate", "study")
"""Stages whose entries name entries of other stages, in that order: they are sent after those."""

Key = tuple[str, str]
"""Stage and store key of an entry."""


@dataclass(frozen=True)
class Replicated:
    """What one call moved, and what is there now."""

    entries: int
    """There now."""
    moved: int
    bytes: int
    left_over: int
    """Entries of the replica that the home has not (any more)."""
    pruned: int = 0


class Replica:
    """`<prefix>/objects/<stage>/<key>/<file>`, then `entries/<stage>/<key>.json` with their digests, then `datasets/`.

    An entry is in the replica exactly when its list of digests is, which is written last; a dataset's pointer is
    written after all entries that it leads to. The endpoint is `AWS_ENDPOINT_URL`, credentials are boto3's own, from
    the environment.
    """

    def __init__(self, url: str) -> None:
        """The replica at `s3://bucket/prefix`.

        Raises:
            UsageError: it is no such address, or boto3 is not installed.
        """
        found = re.fullmatch(r"s3://([A-Za-z0-9.\-]{3,63})(?:/(.*))?", url)
        if not found:
            raise UsageError(f"a replica is written s3://BUCKET/PREFIX, not {url}")
        try:
            import boto3
        except ImportError:
            raise UsageError("a replica needs boto3: pip install 'selfsight[services]'") from None
        self.url, self.bucket, prefix = url, found[1], (found[2] or "").strip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        with self._reached():
            self._s3 = boto3.client("s3")

    def names(self, below: str) -> list[str]:
        """Names of the objects below a folder, without it, in order.

        Raises:
            SelfsightError: the storage does not answer, or refuses.
        """
        found, start = [], self.prefix + below
        with self._reached():
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start):
                found += [one["Key"].removeprefix(start) for one in page.get("Contents", ())]
        return sorted(found)

    def entries(self) -> set[Key]:
        """The entries that are there whole."""
        stems = [PurePosixPath(name).with_suffix("").parts for name in self.names("entries/")]
        return {(parts[0], parts[1]) for parts in stems if len(parts) == 2}

    def write(self, name: str, text: str) -> None:
        with self._reached():
            self._s3.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=text.encode())

    def read(self, name: str) -> str:
        with self._reached():
            body: bytes = self._s3.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].read()
        return body.decode()

    def send(self, path: Path, name: str) -> None:
        with self._reached():
            self._s3.upload_file(str(path), self.bucket, self.prefix + name)

    def fetch(self, name: str, path: Path) -> None:
        with self._reached():
            self._s3.download_file(self.bucket, self.prefix + name, str(path))

    def remove(self, names: list[str]) -> None:
        with self._reached():
            for name in names:
                self._s3.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise SelfsightError(
                f"the replica {self.url} cannot be used ({type(error).__name__}: {error}); look at AWS_ENDPOINT_URL, "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket. What was moved is kept, the same command "
                "goes on"
            ) from error


def send(home: Path, url: str, *, prune: bool = False) -> Replicated:
    """Brings a replica up to date: entries that it lacks, objects first, then the datasets' pointers.

    Never sent: the key and the private id -> path file (outside the home anyway), runs, locks and the services'
    databases.

    Args:
        home: whose store is sent.
        url: `s3://bucket/prefix`.
        prune: remove entries from the replica that the home has no more, e.g. those of an erased patient.
    """
    store, replica = Store(home), Replica(url)
    # Pointers first: what they lead to is in the store by now, whatever is written from here on.
    pointers = {path.name: path.read_text() for path in sorted((home / "datasets").glob("*.json"))}
    mine, theirs = _entries(store), replica.entries()
    missing, left_over = sorted(mine - theirs, key=_turn), sorted(theirs - mine, key=_turn, reverse=True)
    sent = 0
    with Progress(f"replicate to {url}", len(missing), unit="entries") as progress:
        for pointing in (False, True):
            some = [key for key in missing if (key[0] in POINTING) is pointing]
            for size in in_order(lambda key: _send_entry(store, replica, key), some, 1 if pointing else THREADS):
                sent += size
                progress.advance()
    for name, text in pointers.items():
        replica.write(f"datasets/{name}", text)
    if prune:
        replica.remove([f"datasets/{name}" for name in replica.names("datasets/") if name not in pointers])
        for stage, key in left_over:
            replica.remove([f"entries/{stage}/{key}.json"])
            replica.remove([f"objects/{stage}/{key}/{name}" for name in replica.names(f"objects/{stage}/{key}/")])
    return Replicated(len(mine), len(missing), sent, 0 if prune else len(left_over), len(left_over) if prune else 0)


def fetch(home: Path, url: str) -> Replicated:
    """Brings what a home lacks from its replica, each file checked against its digest; datasets it has are left alone.

    Raises:
        SelfsightError: an object is damaged or missing; the entries before it are there, nothing half is.
    """
    store, replica = Store(home), Replica(url)
    pointers = {name: replica.read(f"datasets/{name}") for name in replica.names("datasets/")}
    mine, theirs = _entries(store), replica.entries()
    missing, fetched = sorted(theirs - mine, key=_turn), 0
    with Progress(f"fetch from {url}", len(missing), unit="entries") as progress:
        for pointing in (False, True):
            some = [key for key in missing if (key[0] in POINTING) is pointing]
            for size in in_order(lambda key: _fetch_entry(store, replica, key), some, 1 if pointing else THREADS):
                fetched += size
                progress.advance()
    (home / "datasets").mkdir(parents=True, exist_ok=True)
    for name, text in pointers.items():
        Dataset.model_validate_json(text)
        if not re.fullmatch(r"[A-Za-z0-9_.\-]+\.json", name) or name.startswith("."):
            raise SelfsightError(f"{url} has a dataset with a name that is none: {name!r}")
        if not (home / "datasets" / name).exists():
            write_atomically(home / "datasets" / name, text)
    return Replicated(len(mine | theirs), len(missing), fetched, 0)


def _entries(store: Store) -> set[Key]:
    found = (store.home / "store").glob("*/*/entry.json")
    return {(path.parents[1].name, path.parents[0].name) for path in found if not path.parent.name.startswith(".")}


def _turn(key: Key) -> tuple[int, Key]:
    return (POINTING.index(key[0]) if key[0] in POINTING else -1), key


def _send_entry(store: Store, replica: Replica, key: Key) -> int:
    """Bytes of the entry's files, which are sent before the list that makes it exist."""
    folder = store.path(*key)
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        files[name] = {"sha256": digest_of_file(path), "bytes": path.stat().st_size}
        replica.send(path, f"objects/{key[0]}/{key[1]}/{name}")
    replica.write(f"entries/{key[0]}/{key[1]}.json", json.dumps({"files": files}, indent=1))
    return sum(file["bytes"] for file in files.values())


def _fetch_entry(store: Store, replica: Replica, key: Key) -> int:
    stage, name = key
    if stage not in STAGE_VERSIONS or not re.fullmatch(r"[0-9a-f]{32}", name):
        raise SelfsightError(f"{replica.url} has an entry of a kind that is unknown: {stage}/{name}")
    files: Mapping[str, Any] = json.loads(replica.read(f"entries/{stage}/{name}.json"))["files"]

    def write(folder: Path) -> dict[str, Any]:
        for relative, expected in files.items():
            if ".." in PurePosixPath(relative).parts or PurePosixPath(relative).is_absolute():
                raise SelfsightError(f"{replica.url}: the entry {stage}/{name} names a file outside of it")
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            replica.fetch(f"objects/{stage}/{name}/{relative}", path)
            if digest_of_file(path) != expected["sha256"]:
                raise SelfsightError(
                    f"{replica.url}: objects/{stage}/{name}/{relative} differs from its sha256. Nothing of this entry "
                    "was taken; remove entries/ and objects/ of it there and send it again from a home that has it"
                )
        facts: dict[str, Any] = json.loads((folder / "entry.json").read_text())
        return facts

    store.build(stage, name, write)
    return sum(int(file["bytes"]) for file in files.values())
