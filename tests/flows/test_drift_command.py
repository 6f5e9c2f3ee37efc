"""`selfsight drift`: what it says and answers, and how it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from flows.drift import drift
from pipelines import drift as verb
from pipelines.drift import DriftResult


def statistic(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "value": value, "usual": 0.0, "threshold": 0.2, "alarm": value > 0.2}


def a_result(alarm: bool, rate: float = 0.05) -> dict[str, Any]:
    test = {"site": "all", "compared_with": "all", "alarm": alarm, "p": 0.001 if alarm else 0.6,
            "trained": {"groups": 40, "subjects": 60}, "new": {"groups": 3, "subjects": 3},
            "statistics": [statistic("crop noise", 1.5 if alarm else 0.1), statistic("embedding", 0.05)]}  # fmt: skip
    return {
        "recipe": "brain_tumor", "level": 0.05, "encoder": "random", "alarm": alarm, "false_alarm_rate": rate,
        "trained": {"groups": 40, "subjects": 60, "looked_at": 60},
        "new": {"groups": 3, "subjects": 3, "looked_at": 3, "refused": 1, "known": 2}, "tests": [test],
        "strangest": [{"subject_id": "a" * 16, "group_id": "g", "by": "crop noise", "deviations": 6.2}],
    }  # fmt: skip


@pytest.fixture
def here(monkeypatch):
    """The command in this process, on a result that is given."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    app = typer.Typer()
    app.command()(drift)

    def ask(result: dict[str, Any], *words: Any) -> Any:
        given = DriftResult(result["alarm"], Path("/folder"), result, cached=False)
        monkeypatch.setattr(verb, "drift", lambda *args, **options: given)
        return CliRunner().invoke(app, [str(word) for word in words])

    yield ask
    for number, handler in before.items():
        signal.signal(number, handler)


def test_drift__an_alarm_names_what_differs_and_is_no_failure(here, tmp_path):
    done = here(a_result(True), "brain_tumor", tmp_path, "--home", tmp_path / "home")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "drift ALARM" and lines[-2] == "picture /folder/drift.png"
    assert any("crop noise: distance 1.500, usually 0.000, alarm from 0.200" in line for line in lines)
    assert not any("embedding: distance" in line for line in lines)
    assert any(line.startswith("strange: aaaaaaaaaaaaaaaa, +6.2 deviations") for line in lines)
    assert any("random weights" in line for line in lines)


@pytest.mark.parametrize("alarm, code", [(True, 4), (False, 0)])
def test_drift__gate_is_for_scripts_and_the_answer_is_there_all_the_same(here, tmp_path, alarm, code):
    done = here(a_result(alarm), "brain_tumor", tmp_path, "--home", tmp_path / "home", "--gate")
    assert done.exit_code == code and f"drift {'ALARM' if alarm else 'no alarm'}" in done.stdout


def test_drift__few_groups_are_said(here, tmp_path):
    done = here(a_result(True, rate=0.25), "brain_tumor", tmp_path, "--home", tmp_path / "home")
    assert "a false alarm has a chance of 25%, not 5%" in done.stdout


def test_drift__unknown_recipe(here, tmp_path):
    done = here(a_result(False), "brain_tumour", tmp_path, "--home", tmp_path / "home")
    assert done.exit_code == 2 and "did you mean" in done.stderr
