"""Every objective by name, stopped and resumed: weights, teachers and queues end as if nothing had happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from domains.errors import Preempted
from pipelines import runtime
from pipelines.loop import Job, train
from ssl_models import objectives
from ssl_models.objectives.moco import MoCo
from ssl_models.protocols import Batch
from tests.pipelines.tiny_training import Silent, digest_of, make_job
from tests.ssl_models.objectives.test_contract import batch_of, objective_of

STEPS, STOPPED_AT = 6, 3


class Pairs:
    """Two crops of two subjects, other ones for each seed."""

    def __init__(self, axes: str) -> None:
        self.axes = axes

    def __len__(self) -> int:
        return 7

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        assert len(subjects) == 2
        batch = batch_of(self.axes, seeds[0] % 1000)
        return replace(batch, sample_seed=torch.tensor(seeds), group_id=tuple(str(subject) for subject in subjects))


def job_of(name: str, folder: Path, **changes: Any) -> Job:
    axes = "clip" if objectives.needs(name).time else "2d"
    return make_job(
        folder, module=objective_of(name, "resunet", axes), source=Pairs(axes), crops=2, steps=STEPS, batch_size=2,
        spatial_axes=3 if axes == "clip" else 2, **changes,
    )  # fmt: skip


def run(job: Job) -> str:
    train(job, Silent())  # type: ignore[arg-type]
    return digest_of(job.module)


def stopping(step: int, module: torch.nn.Module) -> dict[str, float]:
    if step == STOPPED_AT:
        runtime.stop_requested.set()
    return {}


@pytest.mark.parametrize("name", objectives.names())
def test_train__stopped_and_resumed_is_bit_identical(name: str, tmp_path: Path) -> None:
    straight = run(job_of(name, tmp_path / "straight", ema_decay=0.0))
    stopped = job_of(name, tmp_path / "stopped", ema_decay=0.0, watch=stopping, watch_every=1)
    with pytest.raises(Preempted, match=f"step {STOPPED_AT} of {STEPS} is saved"):
        run(stopped)
    assert digest_of(stopped.module) != straight
    assert run(job_of(name, tmp_path / "stopped", ema_decay=0.0)) == straight


@pytest.mark.parametrize("name", ["byol", "moco"])
def test_train__teacher_and_queue_go_with_averaged_weights(name: str, tmp_path: Path) -> None:
    straight = run(job_of(name, tmp_path / "straight", ema_decay=0.9))
    with pytest.raises(Preempted):
        run(job_of(name, tmp_path / "stopped", ema_decay=0.9, watch=stopping, watch_every=1))
    assert run(job_of(name, tmp_path / "stopped", ema_decay=0.9)) == straight


@pytest.mark.parametrize("lost", ["queue", "queue_groups", "pointer", "teacher.stages.0.conv1.conv.weight"])
def test_train__what_is_lost_of_moco_would_show(lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = run(job_of("moco", tmp_path / "straight", ema_decay=0.0))
    with pytest.raises(Preempted):
        run(job_of("moco", tmp_path / "stopped", ema_decay=0.0, watch=stopping, watch_every=1))
    whole = MoCo.load_state_dict

    def forgetful(self: MoCo, state: dict[str, torch.Tensor]) -> Any:
        return whole(self, {name: tensor for name, tensor in state.items() if name != lost}, strict=False)

    monkeypatch.setattr(MoCo, "load_state_dict", forgetful)
    assert run(job_of("moco", tmp_path / "stopped", ema_decay=0.0)) != straight
