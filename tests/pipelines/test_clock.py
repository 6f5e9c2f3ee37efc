"""A clock that jumps changes the times in the journal, and neither a duration nor a weight."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import torch

from pipelines.journal import Journal, records
from pipelines.loop import train
from tests.pipelines.tiny_training import Silent, digest_of, make_job

ROOT = Path(__file__).resolve().parents[2]
WALL_CLOCK = {"pipelines/journal.py"}
"""Writes down when something happened; nothing is computed from it."""
DAY = 86_400.0


def test_train__a_clock_that_jumps_by_days_changes_nothing(tmp_path: Path, monkeypatch) -> None:
    straight = make_job(tmp_path / "straight")
    train(straight, Silent())  # type: ignore[arg-type]
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    journal = Journal(tmp_path / "jumping")

    def jump(step: int, module: torch.nn.Module) -> dict[str, float]:
        offset[0] = -3 * DAY if step % 2 else 5 * DAY
        journal.metrics(step, {"loss": float(step)})
        return {}

    began = time.monotonic()
    job = make_job(tmp_path / "jumping", watch=jump, watch_every=1)
    outcome = train(job, Silent())  # type: ignore[arg-type]
    assert 0 < outcome.seconds <= time.monotonic() - began
    assert 0 <= outcome.data_wait_share <= 1 and outcome.samples_per_second > 0
    assert digest_of(job.module) == digest_of(straight.module)
    written = [record for record, _ in records(journal.path)]
    assert [record["step"] for record in written] == list(range(outcome.steps + 1))
    assert [record["seq"] for record in written] == sorted(record["seq"] for record in written)
    assert max(r["time"] for r in written) - min(r["time"] for r in written) > 7 * DAY * 1000


def test_durations__are_measured_on_a_clock_that_does_not_jump() -> None:
    """Nobody but the journal asks what time it is by `time.time`."""
    asking = set()
    for package in ("ssl_models", "domains", "pipelines", "flows"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                named = isinstance(node, ast.Attribute) and node.attr in ("time", "time_ns")
                if named and isinstance(node.value, ast.Name) and node.value.id == "time":  # type: ignore[union-attr]
                    asking.add(str(file.relative_to(ROOT)))
    assert asking == WALL_CLOCK
