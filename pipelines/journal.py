"""The journal of one run: every figure on local disk first, one JSON line each, before anybody else hears of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """`folder/journal.jsonl`, appended to by one process; made on first use.

    A record is `{"seq", "time" (ms), "kind", ...}`. A metric is written once per (name, step): a resumed run passes
    again over steps it has journalled, computes the same values bit by bit, and they are not written twice.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"
        self._guard = threading.Lock()
        self._descriptor: int | None = None
        self._seq = 0
        self._last_step: dict[str, int] = {}

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of one step; those the journal has for this or a later step are left out."""
        with self._guard:
            self._open()
            new = {name: float(value) for name, value in values.items() if self._last_step.get(name, -1) < step}
            if new:
                self._last_step |= dict.fromkeys(new, step)
                self._write({"kind": "metrics", "step": step, "values": new})

    def append(self, kind: str, **content: Any) -> None:
        """A record of another kind."""
        with self._guard:
            self._open()
            self._write({"kind": kind, **content})

    def next_step(self, name: str) -> int:
        """One more than the last step of a metric."""
        with self._guard:
            self._open()
            return self._last_step.get(name, -1) + 1

    def close(self) -> None:
        with self._guard:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> None:
        if self._descriptor is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        end = 0
        for record, end in records(self.path):  # noqa: B007
            self._seq = record["seq"]
            if record["kind"] == "metrics":
                self._last_step |= dict.fromkeys(record["values"], record["step"])
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._descriptor, end)  # a line that a kill cut short

    def _write(self, content: dict[str, Any]) -> None:
        assert self._descriptor is not None
        self._seq += 1
        line = json.dumps({"seq": self._seq, "time": int(time.time() * 1000), **content})
        os.write(self._descriptor, line.encode() + b"\n")


def records(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """(record, offset behind it) of every whole line from byte `offset` on; nothing when there is no file."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset
