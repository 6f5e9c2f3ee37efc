"""What each objective costs: seconds of a training step beside those of `mae`, same encoder, batch and precision.

Run `python tests/benchmarks/bench_objectives.py`; it prints one JSON object. Tiny residual encoder under bfloat16
autocast; images of 1 x 96 x 96, volumes of 1 x 32^3, clips of 3 x 8 x 64 x 64, each in batches of 8 subjects (those
that compare crops see two of each).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from ssl_models import encoders, objectives, optim
from ssl_models.protocols import Batch, Geometry

SUBJECTS, ROUNDS = 8, 5
CASES = {
    "image": (1, Geometry((96, 96), ((1, 1), (2, 2), (2, 2), (2, 2)), (8, 8))),
    "volume": (1, Geometry((32, 32, 32), ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)), (8, 8, 8))),
    "clip": (3, Geometry((8, 64, 64), ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)), (2, 8, 8), time_axis=True)),
}


def painter(crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, seed: Tensor) -> tuple[Tensor, Tensor]:
    """A bright box in the middle: what a painter itself costs is the domain's affair."""
    label = torch.zeros_like(crops[:, :1], dtype=torch.int64)
    label[..., 8:20, 8:20] = 1
    return crops + label, label


def batch_of(case: str, crops: int) -> Batch:
    channels, geometry = CASES[case]
    size = geometry.crop_shape
    known: dict[str, Any] = {"proposals": torch.zeros(SUBJECTS, crops, 1, *size, dtype=torch.int64)}
    known["proposals"][..., :9] = 1
    if geometry.time_axis:
        known["seconds"] = torch.arange(size[0]).double().expand(SUBJECTS, crops, -1) / 10
        known["actions"] = torch.randn(SUBJECTS, crops, size[0], 2)
    return Batch(
        crops=torch.randn(SUBJECTS, crops, channels, *size), sample_seed=torch.arange(SUBJECTS),
        group_id=tuple(str(i) for i in range(SUBJECTS)), foreground=torch.ones(SUBJECTS, crops, 1, *size).bool(),
        **known,
    )  # fmt: skip


def step_of(name: str, case: str) -> Callable[[], None]:
    """A function that trains by one step."""
    torch.manual_seed(0)
    channels, geometry = CASES[case]
    encoder = encoders.build("resunet", size="tiny", in_channels=channels, geometry=geometry)
    module = objectives.build(name, encoder, settings={}, painter=painter, actions=2 if geometry.time_axis else 0)
    batch = batch_of(case, objectives.needs(name).crops)
    layout = torch.channels_last if geometry.spatial_axes == 2 else torch.channels_last_3d
    for parameter in module.parameters():  # a clip's objective may have weights of single frames besides
        if parameter.dim() == geometry.spatial_axes + 2:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    flat = batch.crops.flatten(0, 1).contiguous(memory_format=layout)
    batch = replace(batch, crops=flat.unflatten(0, batch.crops.shape[:2]))
    optimizer = optim.adamw(optim.parameter_groups(module, weight_decay=0.05), learning_rate=1e-4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = module(batch).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        getattr(module, "after_step", lambda: None)()

    return step


def run() -> dict[str, float]:
    """Median seconds of `mae`, and how many times as long a step of each objective takes; timed in turns."""
    result: dict[str, float] = {}
    for case, (_, geometry) in CASES.items():
        fitting = [name for name in objectives.names() if geometry.time_axis or not objectives.needs(name).time]
        steps = {name: step_of(name, case) for name in fitting}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            step()
        for _ in range(ROUNDS):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
        middle = {name: median(times) for name, times in seconds.items()}
        result[f"seconds_{case}_mae"] = round(middle["mae"], 4)
        result |= {f"cost_{case}_{name}": round(value / middle["mae"], 2) for name, value in middle.items()}
    return result | {"threads": torch.get_num_threads()}


if __name__ == "__main__":
    print(json.dumps(run()))
