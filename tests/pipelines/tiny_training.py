"""A training that takes seconds and has everything that makes resuming hard; run as a script by the kill tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from domains.errors import SelfsightError
from domains.recipe import Training
from pipelines import checkpoint
from pipelines.loop import Job, Watch, train
from ssl_models.protocols import Batch, Losses

SETTINGS = {
    "steps": 24, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 3, "ema_decay": 0.9, "checkpoint_every": 5,
}  # fmt: skip


class Noise:
    """Crops (1, 8, 8, 8) of seven subjects that exist nowhere."""

    def __len__(self) -> int:
        return 7

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        crops = [torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return Batch(
            crops=torch.stack(crops) + torch.tensor(subjects).view(-1, 1, 1, 1, 1, 1),
            sample_seed=torch.tensor(seeds),
            group_id=tuple(str(subject) for subject in subjects),
        )


class Tiny(nn.Module):
    """A convolutional autoencoder with dropout, running statistics and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential()
        self.encoder.embed = nn.Conv3d(1, 8, 3, padding=1)
        self.encoder.rest = nn.Sequential(nn.BatchNorm3d(8), nn.GELU(), nn.Dropout(0.2))
        self.up = nn.Conv3d(8, 8, 3, padding=1)
        self.again = nn.Conv3d(8, 8, 3, padding=1)
        self.again.weight = self.up.weight
        self.out = nn.Conv3d(8, 1, 1)
        self.strides: set[tuple[int, ...]] = set()

    def forward(self, batch: Batch) -> Losses:
        x = batch.crops.flatten(0, 1)
        hidden = self.encoder(x)
        self.strides.add(hidden.stride())
        loss = F.mse_loss(self.out(self.again(F.gelu(self.up(hidden)))).float(), x)
        return Losses(total=loss, parts={"mse": loss.detach()})


def make_job(folder: Path, **changes: Any) -> Job:
    """A job on a fresh module; `changes` replace fields of the job or of its settings."""
    settings = Training(**(SETTINGS | {key: changes.pop(key) for key in list(changes) if key in Training.model_fields}))
    if watch := changes.pop("watch", None):
        changes["watches"] = (Watch(watch, changes.pop("watch_every", 50)),)
    torch.manual_seed(0)
    fields: dict[str, Any] = {
        "module": Tiny(), "source": Noise(), "settings": settings, "seed": 3, "precision": "bf16-mixed", "devices": 1,
        "spatial_axes": 3, "folder": folder, "identity": {"verb": "tiny", "recipe": "a"}, "label": "tiny",
    }  # fmt: skip
    return Job(**(fields | changes))


class Silent:
    """What `train` needs of a tracker."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.notes: list[str] = []

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.logged.append((step, metrics))

    def note(self, text: str) -> None:
        self.notes.append(text)


def digest_of(module: nn.Module) -> str:
    """sha256 over every byte of the weights and buffers."""
    digest = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().clone(memory_format=torch.contiguous_format)
        digest.update(name.encode() + plain.numpy().tobytes())
    return digest.hexdigest()


def to_the_end(job: Job) -> None:
    """Trains and prints the weights' digest; an error ends the process with its exit code."""
    try:
        train(job, Silent())  # type: ignore[arg-type]
    except SelfsightError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(digest_of(job.module))


def main(folder: Path, death: str, at: int) -> None:
    """Trains in `folder` and prints the weights' digest; dies as told, at a step or in the writing of a checkpoint."""

    def watch(step: int, module: nn.Module) -> dict[str, float]:
        if step == at and death != "writing":
            os.kill(os.getpid(), getattr(signal, death))
        return {}

    def rename(source: Path, target: Path) -> None:
        if death == "writing" and target.name == f"step-{at:08d}":
            os.kill(os.getpid(), signal.SIGKILL)
        real_rename(source, target)

    real_rename = os.rename
    checkpoint.os.rename = rename  # type: ignore[attr-defined]
    job = make_job(folder, watch=watch, watch_every=1)
    to_the_end(job)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
