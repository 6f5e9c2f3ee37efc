"""Two ranks on this machine's cores give what one gives, and lose nothing when one of them dies or is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from domains.domain import find_recipe
from domains.errors import Diverged, Preempted, RecipeError, SelfsightError
from pipelines import ranks, runtime
from pipelines.loop import Job, _as_rank, train
from pipelines.pretrain import refuse_unfit
from tests.pipelines.shared_training import order_digest, shared_job
from tests.pipelines.tiny_training import Silent, digest_of

ROOT = Path(__file__).parents[2]
Weights = dict[str, Tensor]
SHARDED: dict[str, Any] = {"ema_decay": 0.9, "steps": 3, "warmup_steps": 1}
CASES = {"mae": {"encoder": "vit"}, "simclr": {"encoder": "resunet"}, "byol": {"encoder": "vit", "ema_decay": 0.9}}


@dataclass(frozen=True)
class Jobs:
    """Several jobs for one start of the ranks, and what they are to be started with."""

    folder: Path
    each: tuple[Job, ...]
    devices: int = 2


def one_after_the_other(jobs: Jobs, tracker: Any) -> None:
    """In every rank: the sharded ones are stopped after their first step, and go on."""
    for job in jobs.each:
        if job.sharded:
            runtime.stop_requested.set()
            with pytest.raises(Preempted, match="step 1 of 3 is saved"):
                _as_rank(replace(job, module=deepcopy(job.module)), tracker)
        _as_rank(job, tracker)


def trained(job: Job) -> tuple[list[float], Weights, Weights]:
    """Losses, weights after the training and before."""
    before = {name: tensor.clone() for name, tensor in job.module.state_dict().items()}
    outcome = train(job, Silent())  # type: ignore[arg-type]
    return [loss for _, loss in outcome.losses], dict(job.module.state_dict()), before


def apart(found: Weights, expected: Weights, before: Weights) -> float:
    """Length of the difference, as a share of the way that the training went."""

    def length(a: Weights, b: Weights) -> float:
        floating = [name for name, tensor in b.items() if tensor.is_floating_point()]
        return float(torch.cat([(a[name] - b[name]).flatten().double() for name in floating]).norm())

    return length(found, expected) / length(expected, before)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `mae` trained by two ranks, never stopped."""
    folder = tmp_path_factory.mktemp("two") / "mae"
    train(shared_job(folder, devices=2), Silent())  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of more trainings by two ranks, in one start: other objectives, and parameters in shards."""
    folder = tmp_path_factory.mktemp("others")
    jobs = [shared_job(folder / name, name, devices=2, **CASES[name]) for name in ("simclr", "byol")]
    jobs.append(shared_job(folder / "sharded", devices=2, sharded=True, **SHARDED))
    ranks.together(one_after_the_other, Jobs(folder, tuple(jobs)), Silent())
    return folder


@pytest.mark.slow
def test_train__two_ranks_give_the_result_of_one(two: Path, tmp_path: Path) -> None:
    losses, expected, before = trained(shared_job(tmp_path))
    found, weights, _ = trained(shared_job(two, devices=1))  # its last checkpoint is there: no step is done
    assert found == pytest.approx(losses, rel=1e-6)
    assert apart(weights, expected, before) < 1e-3
    assert order_digest(two, 2) == order_digest(tmp_path, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_train__crops_of_both_ranks_meet(name: str, others: Path, tmp_path: Path) -> None:
    losses, expected, before = trained(shared_job(tmp_path, name, **CASES[name]))
    found, weights, _ = trained(shared_job(others / name, name, **CASES[name]))
    assert found[:3] == pytest.approx(losses[:3], rel=1e-4)
    assert apart(weights, expected, before) < 3e-2


@pytest.mark.slow
def test_train__parameters_in_shards_give_the_same_also_after_a_stop(others: Path, tmp_path: Path) -> None:
    losses, expected, before = trained(shared_job(tmp_path, **SHARDED))
    found, weights, _ = trained(shared_job(others / "sharded", **SHARDED))
    assert found == pytest.approx(losses, rel=1e-5)
    assert apart(weights, expected, before) < 1e-3


def shared(folder: Path, kind: str, at: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "tests.pipelines.shared_training", str(folder), "2", kind, str(at)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, cwd=ROOT)


def left_over(folder: Path) -> list[int]:
    about = [(process.pid, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [pid for pid, command in about if any(str(folder) in word for word in command)]


@pytest.mark.slow
def test_train__a_killed_rank_and_a_stopped_one_lose_nothing(two: Path, tmp_path: Path) -> None:
    killed = shared(tmp_path, "kill", 3)
    assert killed.returncode == 1 and "rank 1 of 2 died without a word" in killed.stderr
    assert "the same command goes on" in killed.stderr
    died = time.time() - (tmp_path / "asked-1").stat().st_mtime
    assert died < 60 and not left_over(tmp_path) and not list(tmp_path.glob("ranks-*"))
    stopped = shared(tmp_path, "stop", 4)  # heard by all at the next step
    assert stopped.returncode == 75 and "step 5 of 6 is saved" in stopped.stderr
    assert "goes on at step 2 of 6" in stopped.stderr
    done = shared(tmp_path, "kill", 99)
    assert done.returncode == 0 and "goes on at step 5 of 6" in done.stderr
    finished = shared_job(two)
    train(finished, Silent())  # type: ignore[arg-type]
    assert done.stdout.split()[-1] == digest_of(finished.module)


ECHO = '{"kind": "", "text": "RuntimeError: connection closed"}'


def test_what_happened__a_typed_error_counts_before_its_echo(tmp_path: Path) -> None:
    (tmp_path / "error-0.json").write_text(ECHO)
    (tmp_path / "error-1.json").write_text('{"kind": "Diverged", "text": "the loss is nan"}')
    found = ranks._what_happened(tmp_path, 2, RuntimeError("launcher"))
    assert isinstance(found, Diverged) and str(found) == "the loss is nan"


def test_what_happened__whoever_said_nothing_was_first(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"began-{number}").touch()
    for number in (0, 2):
        (tmp_path / f"error-{number}.json").write_text(ECHO)
    found = ranks._what_happened(tmp_path, 3, RuntimeError("launcher"))
    assert type(found) is SelfsightError and "rank 1 of 3 died without a word" in str(found)
    (tmp_path / "error-1.json").write_text(ECHO)
    assert "connection closed" in str(ranks._what_happened(tmp_path, 3, RuntimeError("launcher")))


def test_what_happened__none_began(tmp_path: Path) -> None:
    found = ranks._what_happened(tmp_path, 2, RuntimeError("no such device"))
    assert type(found) is SelfsightError and "no such device" in str(found) and "goes on" in str(found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "mae + 0.5 * anomaly_synthesis"}, "loss of anomaly_synthesis is taken over a whole batch"),
        ({"objective": "mae", "devices": "3"}, "a batch of 4 has no 3 equal parts"),
    ],
)
def test_refuse_unfit__what_ranks_cannot_share(changes: dict[str, str], said: str) -> None:
    recipe = find_recipe("brain_tumor")[1].changed({"devices": "2", "pretrain.batch_size": "4"} | changes)
    with pytest.raises(RecipeError, match=said):
        refuse_unfit(recipe)


def test_refuse_unfit__a_mean_over_samples_may_be_shared() -> None:
    refuse_unfit(find_recipe("brain_tumor")[1].changed({"devices": "2", "objective": "mae"}))
