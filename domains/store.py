"""Store: content-addressed entries that exist whole or not at all, and the home they live in."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from domains.errors import SelfsightError
from domains.recipe import digest_of

STAGE_VERSIONS = {
    "ingest": 1, "label": 1, "manifest": 1, "labels": 1, "pretrain": 1, "finetune": 1, "evaluate": 3,
    "embed": 1, "expected": 1, "given": 1, "pseudo": 1, "study": 1, "scores": 1,
    "glance": 1, "figures": 1, "drift": 1,
}  # fmt: skip
"""Bumped by hand when a stage's output changes for the same inputs."""


NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""Errors of a full disk, a limit on a file's size, and a quota."""


class Missing(Exception):
    """An entry would have to be computed, and the caller is `Store.only_looking()`."""


class Store:
    """`<home>/store/<stage>/<key>/`; an entry exists exactly when its `entry.json`, written last, exists."""

    _looking: ClassVar[bool] = False

    @classmethod
    @contextmanager
    def only_looking(cls) -> Iterator[None]:
        """Meanwhile, in every thread, `build` raises Missing instead of computing: asks whether verbs are hits."""
        cls._looking = True
        try:
            yield
        finally:
            cls._looking = False

    def __init__(self, home: Path) -> None:
        self.home = Path(home)

    def key(self, stage: str, parts: Any) -> str:
        """Key of an entry: stage, its version, and `parts` - recipe part and input digests, as JSON."""
        return digest_of([stage, STAGE_VERSIONS[stage], parts])[:32]

    def path(self, stage: str, key: str) -> Path:
        return self.home / "store" / stage / key

    def get(self, stage: str, key: str) -> Path | None:
        """The entry's folder, or None."""
        path = self.path(stage, key)
        return path if (path / "entry.json").is_file() else None

    def facts(self, stage: str, key: str) -> dict[str, Any]:
        """What the writer of the entry returned."""
        facts: dict[str, Any] = json.loads((self.path(stage, key) / "entry.json").read_text())
        return facts

    def build(self, stage: str, key: str, write: Callable[[Path], dict[str, Any]]) -> Path:
        """The entry's folder; `write(folder) -> facts` runs only if nobody has written it.

        Two processes on one key: one computes, the other waits and gets the same. A process that dies leaves no
        entry, only a temporary sibling that the next writer of the key removes.

        Raises:
            SelfsightError: the disk is full; nothing of the entry is left, and those before it are untouched.
        """
        path = self.path(stage, key)
        if (found := self.get(stage, key)) is not None:
            return found
        if self._looking:
            raise Missing(f"{stage} {key}")
        with room_for(path, path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.home / "locks" / f"{stage}-{key}"):
            if (found := self.get(stage, key)) is not None:
                return found
            for left_over in path.parent.glob(f".{key}-*"):
                shutil.rmtree(left_over, ignore_errors=True)
            shutil.rmtree(path, ignore_errors=True)
            temporary = path.parent / f".{key}-{uuid.uuid4().hex[:8]}"
            temporary.mkdir()
            try:
                with room_for(path, temporary):
                    facts = write(temporary)
                    for file in sorted(temporary.rglob("*")):
                        if file.is_file():
                            fsync(file)
                    write_atomically(temporary / "entry.json", json.dumps(facts, sort_keys=True, indent=1))
                    os.rename(temporary, path)
            except BaseException:
                shutil.rmtree(temporary)
                raise
            fsync(path.parent)
        return path

    def remove(self, stage: str, key: str) -> None:
        """Removes an entry and what killed writers of it have left; half removed, it does not exist either."""
        path = self.path(stage, key)
        (path / "entry.json").unlink(missing_ok=True)
        for folder in (path, *path.parent.glob(f".{key}-*")):
            if folder.exists():
                shutil.rmtree(folder)


@contextmanager
def room_for(path: Path, written: Path) -> Iterator[None]:
    """Says what could not be written, and how much it was, when the disk is full or a limit is reached.

    Args:
        path: what is being made.
        written: file or folder that holds what there is of it so far.

    Raises:
        SelfsightError: there is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        files = [file for file in (written, *written.rglob("*")) if file.is_file()]
        so_far = sum(file.stat().st_size for file in files)
        free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
        raise SelfsightError(
            f"{path} cannot be written ({os.strerror(error.errno)}): it needs more than the {so_far} bytes that fit, "
            f"and {free} bytes are free. Nothing of it is kept, what was there before is untouched: make room and run "
            "the same command again"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on `path` (made if missing); released when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fsync(path: Path) -> None:
    """Forces a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Writes a small file so that a reader sees the old or the new text, never a part."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
