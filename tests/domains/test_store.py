"""Store entries exist whole or not at all; equal keys are computed once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from domains import store as store_module
from domains.store import Store


def write_slowly(folder: Path) -> dict:
    (folder / "data.txt").write_text("x" * 1000)
    time.sleep(0.3)
    with open(folder.parents[2] / "calls", "a") as calls:
        calls.write("1")
    return {"size": 1000}


def build_in_process(home: Path) -> None:
    store = Store(home)
    store.build("ingest", store.key("ingest", {"a": 1}), write_slowly)


def die_while_writing(home: Path) -> None:
    def write(folder: Path) -> dict:
        (folder / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    store = Store(home)
    store.build("ingest", store.key("ingest", {"a": 1}), write)


def test_build__same_key_twice__writes_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    key = store.key("ingest", {"a": 1})
    first = store.build("ingest", key, write_slowly)
    assert store.build("ingest", key, write_slowly) == first
    assert (tmp_path / "calls").read_text() == "1"
    assert store.facts("ingest", key) == {"size": 1000}


def test_build__two_processes_on_one_key__one_computes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build_in_process, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    assert (tmp_path / "calls").read_text() == "1"


def test_build__killed_while_writing__leaves_no_entry_and_is_cleaned_up(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=die_while_writing, args=(tmp_path,))
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL
    store = Store(tmp_path)
    key = store.key("ingest", {"a": 1})
    assert store.get("ingest", key) is None
    entry = store.build("ingest", key, write_slowly)
    assert [p.name for p in entry.parent.iterdir()] == [key]


def test_build__writer_raises__nothing_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> dict:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.build("ingest", "k", fail)
    assert store.get("ingest", "k") is None
    assert list((tmp_path / "store" / "ingest").iterdir()) == []


def test_key__depends_on_stage_version_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    key = store.key("ingest", {"a": 1, "b": 2})
    assert store.key("ingest", {"b": 2, "a": 1}) == key
    assert store.key("ingest", {"a": 1, "b": 3}) != key
    assert store.key("label", {"a": 1, "b": 2}) != key
    monkeypatch.setitem(store_module.STAGE_VERSIONS, "ingest", 99)
    assert store.key("ingest", {"a": 1, "b": 2}) != key
