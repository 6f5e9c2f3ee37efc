"""Keyed ids: what stands for names in the home; the way back lives in a private file outside it."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from domains.store import locked


def key_file() -> Path:
    """`SELFSIGHT_KEY`, or `selfsight/key` in the user's configuration folder."""
    if named := os.environ.get("SELFSIGHT_KEY"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "selfsight" / "key"


class Identity:
    """Ids from a secret key (made on first use, mode 0600)."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path or key_file()
        self._book = self._file.with_name(self._file.name + ".whois.jsonl")
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self._lock):
            if not self._file.exists():
                _append_private(self._file, secrets.token_hex(32))
        self._key = bytes.fromhex(self._file.read_text().strip())

    def keyed(self, kind: str, *parts: str) -> str:
        """16 hex digits that stand for `parts`; `kind` keeps file, subject and group ids apart."""
        message = json.dumps([kind, *parts]).encode()
        return hmac.new(self._key, message, sha256).hexdigest()[:16]

    def remember(self, paths: Mapping[str, str], groups: Mapping[str, str] | None = None) -> None:
        """Adds id -> path to the private book, once each; `groups` (id -> group id) says whom a line is about."""
        about = {i: [path, (groups or {}).get(i, "")] for i, path in paths.items()}
        with locked(self._lock):
            known = self._read()
            lines = [json.dumps([i, *line]) for i, line in about.items() if known.get(i) != line]
            if lines:
                _append_private(self._book, "\n".join(lines) + "\n")

    def whois(self, ids: Iterable[str]) -> dict[str, str]:
        """The paths of the ids that the book knows."""
        known = self._read()
        return {i: known[i][0] for i in ids if i in known}

    def group_named(self, text: str) -> str | None:
        """The group id that `whois` shows as `text`, or None."""
        return next((i for i, (path, group) in self._read().items() if path == text and group in ("", i)), None)

    def forget(self, ids: Collection[str], groups: Collection[str]) -> int:
        """Removes the lines of these ids and those about these groups from the book; says how many ids that were."""
        with locked(self._lock):
            known = self._read()
            kept = {i: line for i, line in known.items() if i not in ids and line[1] not in groups}
            if len(kept) < len(known):
                shorter = self._book.with_name(f".{self._book.name}-{secrets.token_hex(4)}")
                _append_private(shorter, "".join(json.dumps([i, *line]) + "\n" for i, line in kept.items()))
                os.replace(shorter, self._book)
            return len(known) - len(kept)

    @property
    def _lock(self) -> Path:
        return self._file.with_name(self._file.name + ".lock")

    def _read(self) -> dict[str, list[str]]:
        """Id -> [path, group id or ""]; lines written before there were groups have none."""
        if not self._book.exists():
            return {}
        lines = [json.loads(line) for line in self._book.read_text().splitlines() if line]
        return {i: [path, *(about or [""])] for i, path, *about in lines}


def _append_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
