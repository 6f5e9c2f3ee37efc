"""A training step of our residual U-Net: channels-last with bfloat16 autocast against the default layout in float32.

Run `python tests/benchmarks/bench_conv_step.py`; it prints one JSON object. The same network, loss and AdamW on both
sides; images of 3 x 128 x 128 in batches of 12, volumes of 48^3 in batches of 4.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from ssl_models import optim
from ssl_models.decoders.segmentation import SegmentationDecoder
from ssl_models.encoders import build
from ssl_models.losses import dice_cross_entropy
from ssl_models.protocols import Geometry

CASES = {
    "2d": (12, 3, Geometry((128, 128), ((1, 1), (2, 2), (2, 2), (2, 2)), (8, 8))),
    "3d": (4, 1, Geometry((48, 48, 48), ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)), (8, 8, 8))),
}
ROUNDS, STEPS = 5, 2


def step_of(case: str, fast: bool) -> Callable[[], None]:
    """A function that trains by one step."""
    torch.manual_seed(0)
    batch, channels, geometry = CASES[case]
    encoder = build("resunet", size="tiny", in_channels=channels, geometry=geometry)
    decoder = SegmentationDecoder(widths=encoder.widths, strides=encoder.strides, out_channels=2)
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    crops = torch.randn(batch, channels, *geometry.crop_shape)
    target = torch.randint(2, (batch, 1, *geometry.crop_shape))
    if fast:
        layout = torch.channels_last if geometry.spatial_axes == 2 else torch.channels_last_3d
        model, crops = model.to(memory_format=layout), crops.to(memory_format=layout)
    optimizer = optim.adamw(optim.parameter_groups(model, weight_decay=0.05), learning_rate=1e-4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if fast else nullcontext():
            loss = dice_cross_entropy(model["decoder"](model["encoder"](crops)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def run() -> dict[str, float]:
    """Median seconds a step, timed in turns, and how many times faster the fast one is."""
    result: dict[str, float] = {}
    for case in CASES:
        steps = {"float32": step_of(case, fast=False), "bf16_channels_last": step_of(case, fast=True)}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            step()
        for _ in range(ROUNDS):
            for name, step in steps.items():
                for _ in range(STEPS):
                    start = time.perf_counter()
                    step()
                    seconds[name].append(time.perf_counter() - start)
        middle = {name: median(times) for name, times in seconds.items()}
        result |= {f"seconds_{case}_{name}": round(value, 4) for name, value in middle.items()}
        result[f"speedup_{case}"] = round(middle["float32"] / middle["bf16_channels_last"], 3)
    return result | {"threads": torch.get_num_threads()}


if __name__ == "__main__":
    print(json.dumps(run()))
