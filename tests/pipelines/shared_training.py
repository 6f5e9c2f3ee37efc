"""A training that several ranks can share; run as a script by the tests that kill one of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines import ranks
from pipelines.loop import Job, Watch
from ssl_models import objectives
from ssl_models.protocols import Batch
from tests.pipelines.tiny_training import make_job, to_the_end
from tests.ssl_models.objectives.test_contract import GEOMETRIES, objective_of

STEPS = 6


@dataclass(frozen=True)
class Images:
    """Smooth crops (2, H, W) of nine subjects; each sample that is asked for is noted in `log`, one line a batch."""

    log: Path

    def __len__(self) -> int:
        return 9

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        with open(self.log.with_name(f"{self.log.name}-{ranks.rank()}"), "a") as file:
            file.write(" ".join(f"{subject}:{seed}" for subject, seed in zip(subjects, seeds, strict=True)) + "\n")
        size, made = GEOMETRIES["2d"].crop_shape, []
        for subject, seed in zip(subjects, seeds, strict=True):
            noise = torch.randn(crops, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
            made.append(nn.functional.interpolate(noise, size, mode="bilinear") + subject / 5)
        return Batch(
            crops=torch.stack(made), sample_seed=torch.tensor(seeds), group_id=tuple(str(s % 7) for s in subjects),
            foreground=torch.ones(len(seeds), crops, 1, *size, dtype=torch.bool),
        )  # fmt: skip


@dataclass(frozen=True)
class KillRank:
    """At a step, rank 1 is gone."""

    at: int

    def __call__(self, step: int, module: nn.Module) -> dict[str, float]:
        if step == self.at and ranks.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {}


@dataclass(frozen=True)
class StopRank:
    """At a step, rank 1 alone is asked to stop."""

    at: int

    def __call__(self, step: int, module: nn.Module) -> dict[str, float]:
        if step == self.at and ranks.rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}


def shared_job(folder: Path, name: str = "mae", encoder: str = "vit", **changes: Any) -> Job:
    """A job in float32 on batches of four."""
    folder.mkdir(parents=True, exist_ok=True)
    if watch := changes.pop("watch", None):
        changes["watches"] = (Watch(watch, 1),)
    defaults: dict[str, Any] = {"steps": STEPS, "checkpoint_every": 2, "ema_decay": 0.0, "precision": "32-true"}
    return make_job(
        folder, module=objective_of(name, encoder, "2d"), source=Images(folder / "asked"), spatial_axes=2,
        crops=objectives.needs(name).crops, **(defaults | changes),
    )  # fmt: skip


def asked(folder: Path, devices: int) -> list[list[str]]:
    """The samples of each step, those of all ranks side by side."""
    each = [(folder / f"asked-{rank}").read_text().splitlines() for rank in range(devices)]
    return [[sample for share in step for sample in share.split()] for step in zip(*each, strict=True)]


def order_digest(folder: Path, devices: int) -> str:
    """sha256 of which samples a training saw, step by step."""
    return sha256(repr(asked(folder, devices)).encode()).hexdigest()


def main(folder: Path, devices: int, kind: str, at: int) -> None:
    """Trains in `folder` and prints the weights' digest; a rank ends as told."""
    watch = {"kill": KillRank, "stop": StopRank}[kind](at)
    job = shared_job(folder, devices=devices, watch=watch)
    to_the_end(job)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
