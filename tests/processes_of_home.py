"""Processes of `selfsight` on one home, and what its store and its Prefect database say of them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
SHORT = [
    f"--set={change}"
    for change in (
        "size=tiny", "pretrain.steps=40", "pretrain.checkpoint_every=4", "pretrain.batch_size=2",
        "pretrain.warmup_steps=1", "finetune.steps=4", "finetune.batch_size=2", "finetune.warmup_steps=1",
    )
]  # fmt: skip
LONGEST_WAIT_SECONDS = 600
"""For one step on a busy machine; an idle one takes a tenth."""


def environment() -> dict[str, str]:
    left_out = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME")
    mine = {name: value for name, value in os.environ.items() if name not in left_out}
    return mine | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*words: object, log: Path) -> subprocess.Popen[bytes]:
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *map(str, words)], stdout=output, stderr=output, env=environment(),
            start_new_session=True,
        )  # fmt: skip


def wait_for(condition: Callable[[], object], what: str, *running: subprocess.Popen[bytes]) -> object:
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        assert all(process.poll() is None for process in running), f"ended while waiting for {what}"
        time.sleep(0.2)
    return found


def rows(home: Path, query: str) -> list[tuple]:
    """Of Prefect's database."""
    if not (database := home / "prefect" / "prefect.db").exists():
        return []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60) as connection:
        return connection.execute(query).fetchall()


def runs(home: Path, state: str, flow: str = "%") -> int:
    """How many runs of a flow, or of any, are in a state."""
    query = "select count(*) from flow_run r join flow f on f.id = r.flow_id"
    return rows(home, f"{query} where r.state_type = '{state}' and f.name like '{flow}'")[0][0]


def processes(home: Path, *words: str) -> list[psutil.Process]:
    """Those with a word in their command line, whose environment names the home."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("SELFSIGHT_HOME") == str(home) or str(home) in process.cmdline()
            if mine and process.status() != psutil.STATUS_ZOMBIE and any(w in process.cmdline() for w in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


def encoders(home: Path) -> list[dict]:
    """What the encoders of a home say of themselves, oldest first."""
    files = (home / "store" / "pretrain").glob("*/model.json")
    return [json.loads(file.read_text()) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]


def digests(home: Path) -> list[str]:
    """Of every network in the store."""
    files = (home / "store").glob("*/*/model.json")
    return sorted(json.loads(file.read_text())["sha256"] for file in files)
