"""The training loop: stops and goes on bit by bit, keeps what is good, refuses what does not belong."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from domains.errors import ContractMismatch, Diverged, Preempted
from pipelines import checkpoint, runtime
from pipelines.loop import Outcome, train
from ssl_models.protocols import Batch, Losses
from tests.pipelines.tiny_training import Noise, Silent, Tiny, digest_of, make_job


@pytest.fixture(autouse=True)
def _stop_is_not_requested() -> Iterator[None]:
    runtime.stop_requested.clear()
    yield
    runtime.stop_requested.clear()


def _train(folder: Path, **changes: Any) -> tuple[Outcome, nn.Module, Silent]:
    job, tracker = make_job(folder, **changes), Silent()
    return train(job, tracker), job.module, tracker  # type: ignore[arg-type]


def _stop_at(step: int) -> dict[str, Any]:
    def watch(at: int, module: nn.Module) -> dict[str, float]:
        if at == step:
            runtime.stop_requested.set()
        return {}

    return {"watch": watch, "watch_every": 1}


def test_train__stopped_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    straight, expected, _ = _train(tmp_path / "straight")
    for step in (3, 11, 20):
        with pytest.raises(Preempted, match=f"step {step} of 24 is saved"):
            _train(tmp_path / "stopped", **_stop_at(step))
    outcome, module, tracker = _train(tmp_path / "stopped")
    assert digest_of(module) == digest_of(expected)
    assert outcome.resumed_at == [3, 11, 20]
    assert outcome.losses == straight.losses
    assert tracker.notes == ["tiny goes on at step 20 of 24"]


def test_train__finished_work_is_found(tmp_path: Path) -> None:
    first, module, _ = _train(tmp_path)
    again, same, tracker = _train(tmp_path)
    assert digest_of(same) == digest_of(module)
    assert again.losses == first.losses and again.resumed_at == [] and not tracker.logged


def test_train__second_process_waits_for_the_lock(tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    def watch(step: int, module: nn.Module) -> dict[str, float]:
        entered.set()
        release.wait(10)
        return {}

    first = threading.Thread(target=_train, args=(tmp_path,), kwargs={"watch": watch, "steps": 4})
    first.start()
    assert entered.wait(30)
    results: list[Any] = []
    second = threading.Thread(target=lambda: results.append(_train(tmp_path, steps=4)))
    second.start()
    time.sleep(0.2)
    assert not results
    release.set()
    first.join()
    second.join()
    assert results[0][0].steps == 4 and not results[0][2].logged


def test_train__module_is_channels_last_and_so_is_its_optimiser_after_a_resume(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        _train(tmp_path, **_stop_at(7))
    loaded = checkpoint.latest(tmp_path / "checkpoints")
    assert loaded is not None
    moments = [t for name, t in loaded.tensors.items() if name.endswith("exp_avg") and t.dim() == 5]
    assert moments and all(moment.stride()[1] == 1 for moment in moments)
    _, module, _ = _train(tmp_path)
    assert {stride[1] for stride in module.strides} == {1}  # type: ignore[union-attr]
    assert all(p.stride()[1] == 1 for p in module.parameters() if p.dim() == 5)


def test_train__callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    job = make_job(tmp_path, steps=2)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(job, Silent())  # type: ignore[arg-type]
    assert torch.equal(torch.rand(3), expected)


def test_train__averaged_weights_are_kept(tmp_path: Path) -> None:
    _, averaged, _ = _train(tmp_path / "a")
    _, plain, _ = _train(tmp_path / "b", ema_decay=0.0)
    assert digest_of(averaged) != digest_of(plain)
    loaded = checkpoint.latest(tmp_path / "a" / "checkpoints")
    assert loaded is not None
    for name, tensor in plain.state_dict().items():
        assert torch.equal(loaded.tensors[f"model.{name}"], tensor)
    for name, tensor in averaged.named_parameters():
        assert torch.equal(loaded.tensors[f"ema.{name}"], tensor)


def test_train__damaged_checkpoint_costs_steps_not_the_result(tmp_path: Path) -> None:
    _, expected, _ = _train(tmp_path / "straight")
    with pytest.raises(Preempted):
        _train(tmp_path / "hurt", **_stop_at(13))
    os.truncate(tmp_path / "hurt/checkpoints/step-00000013/tensors.safetensors", 500)
    outcome, module, tracker = _train(tmp_path / "hurt")
    assert digest_of(module) == digest_of(expected)
    assert outcome.resumed_at == [10]
    assert "step-00000013" in tracker.notes[0] and "falling back" in tracker.notes[0]


def test_train__another_identity_is_refused_naming_both(tmp_path: Path) -> None:
    _train(tmp_path, steps=2)
    with pytest.raises(ContractMismatch, match=r"recipe: checkpoint has 'a', this run has 'b'"):
        _train(tmp_path, steps=2, identity={"verb": "tiny", "recipe": "b"})


def test_train__another_thread_count_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFSIGHT_THREADS", "1")
    with pytest.raises(Preempted):
        _train(tmp_path, **_stop_at(2))
    monkeypatch.setenv("SELFSIGHT_THREADS", "2")
    _, _, tracker = _train(tmp_path, steps=24)
    assert "began with 1 threads and goes on with 2" in tracker.notes[0]


class Breaking(Tiny):
    """Not finite at the ninth batch: in the loss, or in its gradient only."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.calls = where, 0

    def forward(self, batch: Batch) -> Losses:
        losses = super().forward(batch)
        self.calls += 1
        if self.calls < 9:
            return losses
        if self.where == "loss":
            return Losses(total=losses.total * math.nan)
        return Losses(total=losses.total + (0 * self.out.bias.sum()).sqrt())


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_train__diverged_keeps_the_last_good_checkpoint(tmp_path: Path, where: str) -> None:
    with pytest.raises(Diverged, match=r"at step 8.*lower learning_rate") as first:
        _train(tmp_path, module=Breaking(where))
    assert first.value.exit_code == 76
    loaded = checkpoint.latest(tmp_path / "checkpoints")
    assert loaded is not None and loaded.step == 5
    assert all(t.isfinite().all() for t in loaded.tensors.values())
    with pytest.raises(Diverged, match="would diverge again"):
        _train(tmp_path)
    assert json.loads((tmp_path / "diverged.json").read_text())["step"] == 8


def test_train__layer_decay_reaches_an_encoder_inside_a_wrapped_model(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.model = Tiny()

        def forward(self, batch: Batch) -> Losses:
            losses: Losses = self.model(batch)
            return losses

    _, half, _ = _train(tmp_path / "half", module=Wrapped(), layer_decay=0.5, steps=3)
    _, same, _ = _train(tmp_path / "same", module=Wrapped(), steps=3)
    assert digest_of(half) != digest_of(same)

    stray = Wrapped()
    stray.head = nn.Linear(2, 2)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="outside the part that has an `encoder`"):
        _train(tmp_path / "stray", module=stray)


def test_train__journals_loss_parts_and_figures(tmp_path: Path) -> None:
    _, _, tracker = _train(tmp_path, steps=3, watch=lambda step, module: {"rank": float(step)}, watch_every=2)
    assert [step for step, _ in tracker.logged] == [0, 1, 2, 2, 3, 3]
    assert tracker.logged[0] == (0, {"rank": 0.0}), "before the first step"
    assert tracker.logged[1][1].keys() == {"loss", "mse", "learning_rate", "gradient_norm"}
    assert tracker.logged[3] == (2, {"rank": 2.0})


def test_train__data_error_comes_through(tmp_path: Path) -> None:
    class Broken(Noise):
        def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
            raise OSError("damaged chunk")

    with pytest.raises(OSError, match="damaged chunk"):
        _train(tmp_path, source=Broken())


def _in_a_process(folder: Path, death: str = "nothing", at: int = -1) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("tiny_training.py")
    environment = os.environ | {"PYTHONPATH": str(script.parents[2]), "SELFSIGHT_THREADS": "2"}
    command = [sys.executable, str(script), str(folder), death, str(at)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the weights of a run in a process of its own that nothing stopped."""
    return _in_a_process(tmp_path_factory.mktemp("unstopped")).stdout


@pytest.mark.slow
def test_train__killed_at_three_random_steps(tmp_path: Path, unstopped: str) -> None:
    steps = sorted(random.sample(range(1, 24), 3))
    for step in steps:
        assert _in_a_process(tmp_path, "SIGKILL", step).returncode == -signal.SIGKILL
    done = _in_a_process(tmp_path)
    assert len(unstopped) == 65, unstopped
    assert done.stdout == unstopped, (steps, done.stderr)


@pytest.mark.slow
def test_train__killed_while_a_checkpoint_is_written(tmp_path: Path, unstopped: str) -> None:
    assert _in_a_process(tmp_path, "writing", 15).returncode == -signal.SIGKILL
    assert [p.name for p in checkpoint.steps(tmp_path / "checkpoints")] == ["step-00000005", "step-00000010"]
    assert list((tmp_path / "checkpoints").glob(".step-*"))
    done = _in_a_process(tmp_path)
    assert "goes on at step 10 of 24" in done.stderr
    assert done.stdout == unstopped
    assert not list((tmp_path / "checkpoints").glob(".step-*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_train__asked_to_stop(tmp_path: Path, unstopped: str, name: str) -> None:
    stopped = _in_a_process(tmp_path, name, 13)
    assert stopped.returncode == 75
    assert "step 13 of 24 is saved" in stopped.stderr
    assert _in_a_process(tmp_path).stdout == unstopped
