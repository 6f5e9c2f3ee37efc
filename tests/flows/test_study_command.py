"""`selfsight study`: told before it starts, stopped without an orphan, and going on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from domains.domain import load
from domains.errors import UsageError
from flows.looking import budgets_of, study_lines

ROOT = Path(__file__).resolve().parents[2]


def test_budgets_of__sorted_and_once() -> None:
    assert budgets_of("10, 3,0,3") == [0, 3, 10]


@pytest.mark.parametrize("text", ["", "three", "-1,3", "3;10"])
def test_budgets_of__not_numbers__refused(text: str) -> None:
    with pytest.raises(UsageError, match="label budgets are numbers"):
        budgets_of(text)


def test_study_lines__a_row_an_arm_and_budget_then_the_verdict() -> None:
    gain = {"mean": 0.1, "low": 0.02, "high": 0.2, "n": 9}
    rows = [
        {"arm": "scratch", "label_budget": 3, "mean": 0.5, "low": 0.4, "high": 0.6, "n": 9, "against_scratch": None},
        {"arm": "mae", "label_budget": 3, "mean": 0.6, "low": 0.5, "high": 0.7, "n": 9, "against_scratch": gain},
    ]
    study = {"primary": "dice", "table": rows, "verdict": "so", "warnings": [], "study": "s", "report": "r"}
    lines = study_lines(study)
    assert lines[2].split() == ["mae", "3", "0.600", "(0.500-0.700,", "n=9)", "+0.100", "(+0.020", "to", "+0.200)"]
    assert lines[3] == "so"


def test_study_lines__one_group_alone__no_interval() -> None:
    alone = {"mean": 0.1, "low": None, "high": None, "n": 9}
    row = {"arm": "mae", "label_budget": 3, **alone, "against_scratch": alone}
    study = {"primary": "miou", "table": [row], "verdict": "so", "warnings": [], "study": "s", "report": "r"}
    assert study_lines(study)[1].endswith("+0.100 (no interval)")


@pytest.mark.slow
def test_study__stopped_and_started_again(tmp_path: Path) -> None:
    generate = load("medical").generate
    assert generate is not None
    generate(tmp_path / "heads", 6, 0)
    home = tmp_path / "home"

    def start(pretraining: int) -> subprocess.Popen[str]:
        few = {"finetune.steps": 2, "finetune.batch_size": 2, "pretrain.batch_size": 2, "pretrain.steps": pretraining}
        words = ["study", "brain_tumor", str(tmp_path / "heads"), "--label-budgets", "0,2", "--folds", "2",
                 "--arms", "proposals,scratch", "--home", str(home), "--json"]  # fmt: skip
        words += [f"--set={key}={value}" for key, value in few.items()]
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
        )  # fmt: skip

    running = start(100_000)
    assert running.stderr is not None
    told = next(line for line in running.stderr if "cells in" in line)
    assert "8 cells" not in told and "6 cells" in told and "minutes" in told
    deadline = time.monotonic() + 120
    while not list(home.glob("runs/pretrain-*/journal*")) and time.monotonic() < deadline:
        time.sleep(0.5)
    workers = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 75, err
    assert not psutil.wait_procs(workers, timeout=10)[1]

    again = start(2)
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, err
    answer = json.loads(out.strip().splitlines()[-1])
    assert {(row["arm"], row["label_budget"]) for row in answer["table"]} == {
        ("proposals", 0), ("proposals", 2), ("scratch", 2),
    }  # fmt: skip
    assert Path(answer["report"]).is_file()
