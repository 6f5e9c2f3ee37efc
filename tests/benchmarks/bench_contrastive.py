"""A training step of SimCLR, MoCo and BYOL against lightly's modules on the same backbone, heads and batch: seconds.

Run `python tests/benchmarks/bench_contrastive.py`; it prints one JSON object. Both train the tiny residual encoder on
two crops of 96^2 of 32 subjects with AdamW, in float32; heads of 128 -> 512 -> 128, temperature 0.2, momentum 0.99, a
queue of 1,024 keys. Steps are timed in turns, in seconds of the process, which a busy machine distorts least.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, MoCoProjectionHead, SimCLRProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from ssl_models import encoders, objectives, optim
from ssl_models.protocols import Batch, Geometry, pooled

SIDE, BATCH, HEAD, WIDTH, QUEUE = 96, 32, 512, 128, 1024
ROUNDS = 11
GEOMETRY = Geometry((SIDE, SIDE), ((1, 1), (2, 2), (2, 2), (2, 2)), (16, 16))


def backbone() -> Any:
    torch.manual_seed(0)
    return encoders.build("resunet", size="tiny", in_channels=1, geometry=GEOMETRY).to(
        memory_format=torch.channels_last
    )


def crops_of_a_batch() -> Tensor:
    """(B, 2, 1, S, S), whose (2 B, 1, S, S) view has channels last."""
    crops = torch.randn(2 * BATCH, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    # Copied, since `contiguous` leaves the strides of one channel, and kernels are chosen by strides.
    laid_out = torch.empty_like(crops, memory_format=torch.channels_last).copy_(crops)
    return laid_out.unflatten(0, (BATCH, 2))


def our_step(name: str) -> Callable[[], None]:
    """A function that trains ours by one step."""
    settings = {"moco": {"queue": QUEUE}}.get(name, {})
    objective = objectives.build(name, backbone(), settings={name: settings}, painter=None)
    optimizer = optim.adamw(optim.parameter_groups(objective, weight_decay=0.05), learning_rate=1e-4)
    groups = tuple(str(n) for n in range(BATCH))
    batch = Batch(crops=crops_of_a_batch(), sample_seed=torch.arange(BATCH), group_id=groups)

    def step() -> None:
        loss = objective(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        getattr(objective, "after_step", lambda: None)()

    return step


class Backbone(nn.Module):
    """(B, 1, S, S) -> (B, E) of the same encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = backbone()

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.encoder(x))


def lightly_loss(name: str) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    """What is trained, and its loss of first and second crops, put together as lightly's own examples do."""
    model = nn.ModuleDict({"backbone": Backbone()})
    if name == "simclr":
        model["head"] = SimCLRProjectionHead(WIDTH, HEAD, WIDTH)
        nt_xent = NTXentLoss(temperature=0.2)
        run = lambda part, x: part["head"](part["backbone"](x))  # noqa: E731
        return model, lambda first, second: nt_xent(run(model, first), run(model, second))
    model["head"] = MoCoProjectionHead(WIDTH, HEAD, WIDTH) if name == "moco" else BYOLProjectionHead(WIDTH, HEAD, WIDTH)
    teacher = copy.deepcopy(model)
    deactivate_requires_grad(teacher)
    info_nce = NTXentLoss(temperature=0.2, memory_bank_size=(QUEUE, WIDTH))
    cosine = NegativeCosineSimilarity()
    predictor = BYOLPredictionHead(WIDTH, HEAD, WIDTH)

    def loss(first: Tensor, second: Tensor) -> Tensor:
        for kind in ("backbone", "head"):
            update_momentum(model[kind], teacher[kind], m=0.99)
        project = lambda part, x: part["head"](part["backbone"](x))  # noqa: E731
        if name == "moco":
            return info_nce(project(model, first), project(teacher, second).detach())
        predicted = predictor(project(model, first)), predictor(project(model, second))
        targets = project(teacher, first).detach(), project(teacher, second).detach()
        return 0.5 * (cosine(predicted[0], targets[1]) + cosine(predicted[1], targets[0]))

    return nn.ModuleDict({"model": model, "predictor": predictor}) if name == "byol" else model, loss


def lightly_step(name: str) -> Callable[[], None]:
    """A function that trains lightly's by one step."""
    model, loss_of = lightly_loss(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, betas=(0.9, 0.95), fused=True)
    crops = crops_of_a_batch()
    first, second = (x.contiguous(memory_format=torch.channels_last) for x in crops.unbind(1))

    def step() -> None:
        loss = loss_of(first, second)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def in_turns(steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median seconds of the process of each."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    return {name: median(times) for name, times in seconds.items()}


def run() -> dict[str, float]:
    """Seconds of the process a step, and ratios (above 1: ours is faster)."""
    names = ("simclr", "moco", "byol")
    steps = {f"ours_{name}": our_step(name) for name in names} | {f"lightly_{n}": lightly_step(n) for n in names}
    seconds = in_turns(steps)
    return {
        **{f"seconds_{name}": round(value, 4) for name, value in seconds.items()},
        **{f"lightly_over_ours_{n}": round(seconds[f"lightly_{n}"] / seconds[f"ours_{n}"], 3) for n in names},
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    print(json.dumps(run()))
