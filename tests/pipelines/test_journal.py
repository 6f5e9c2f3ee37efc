"""The journal: whole lines only, one value per figure and step."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from pipelines.journal import Journal, records


def _lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_metrics__a_resumed_run_repeats_no_step(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in range(6):
        journal.metrics(step, {"loss": step / 10})
    journal = Journal(tmp_path)
    for step in range(3, 9):
        journal.metrics(step, {"loss": step / 10, "extra": 1.0})
    steps = [line["step"] for line in _lines(tmp_path) if "loss" in line["values"]]  # type: ignore[operator]
    assert steps == list(range(9))
    assert [line["seq"] for line in _lines(tmp_path)] == list(range(1, 13))


def test_metrics__two_figures_of_one_step(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.metrics(1, {"loss": 1.0})
    journal.metrics(1, {"rank": 2.0, "loss": 9.0})
    assert [line["values"] for line in _lines(tmp_path)] == [{"loss": 1.0}, {"rank": 2.0}]
    assert journal.next_step("rank") == 2 and journal.next_step("new") == 0


def test_append__after_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    Journal(tmp_path).append("note", text="whole")
    with open(tmp_path / "journal.jsonl", "a") as file:
        file.write('{"seq": 2, "kind": "no')
    Journal(tmp_path).append("note", text="next")
    assert [(line["seq"], line["text"]) for line in _lines(tmp_path)] == [(1, "whole"), (2, "next")]


def test_records__go_on_at_an_offset(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("note", text="a")
    [(_, offset)] = list(records(journal.path))
    journal.append("note", text="b")
    assert [record["text"] for record, _ in records(journal.path, offset)] == ["b"]
    assert list(records(tmp_path / "none")) == []


def test_append__from_two_threads(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    write = [threading.Thread(target=lambda: [journal.append("note", text="x" * 500) for _ in range(50)]) for _ in "ab"]
    for thread in write:
        thread.start()
    for thread in write:
        thread.join()
    assert [line["seq"] for line in _lines(tmp_path)] == list(range(1, 101))
