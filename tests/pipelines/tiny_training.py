"""A training that takes seconds and has everything that makes resuming hard; run as a script by the kill tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from domains.recipe import Training
from pipelines.loop import Job
from ssl_models.protocols import Batch, Losses

SETTINGS = {
    "steps": 24, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 3, "ema_decay": 0.9, "checkpoint_every": 5,
}  # fmt: skip


class Noise:
    """Crops (1, 8, 8, 8) of seven subjects that exist nowhere."""

    def __len__(self) -> int:
        return 7

    def batch(self, subjects: Sequence[int], seeds: Sequence[int]) -> Batch:
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
        self.encoder = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.GELU(), nn.Dropout(0.2))
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
