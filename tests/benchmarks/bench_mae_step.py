"""A training step of the 3D masked autoencoder against MONAI's `MaskedAutoEncoderViT`: seconds, and GFLOP/s of peak.

Run `python tests/benchmarks/bench_mae_step.py`; it prints one JSON object. Both train the same shapes: crops of 64^3
in patches of 8^3, width 192, 6 blocks of 6 heads, decoder 96 x 2, batch 8, AdamW. MONAI's class gives predictions and
a mask; patchify, normalised targets and loss are added to it as its users have to.
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
from monai.networks.nets.masked_autoencoder_vit import MaskedAutoEncoderViT
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[2]))
from ssl_models import optim
from ssl_models.encoders import build
from ssl_models.objectives.mae import MaskedAutoencoder
from ssl_models.protocols import Batch, Geometry
from ssl_models.tokens import patchify

CROP, PATCH, BATCH = (64, 64, 64), (8, 8, 8), 8
ROUNDS, STEPS = 7, 3


def our_step(mask_ratio: float, bf16: bool) -> Callable[[], None]:
    """A function that trains ours by one step."""
    torch.manual_seed(0)
    geometry = Geometry(CROP, ((1, 1, 1),), PATCH)
    objective = MaskedAutoencoder(build("vit", size="tiny", in_channels=1, geometry=geometry), mask_ratio=mask_ratio)
    optimizer = optim.adamw(optim.parameter_groups(objective, weight_decay=0.05), learning_rate=1e-4)
    batch = Batch(crops=torch.randn(BATCH, 1, 1, *CROP), sample_seed=torch.arange(BATCH), group_id=("",) * BATCH)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            loss = objective(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def monai_step(mask_ratio: float) -> Callable[[], None]:
    """A function that trains MONAI's by one step, float32 (under bfloat16 autocast it raises)."""
    torch.manual_seed(0)
    model = MaskedAutoEncoderViT(
        1, CROP, PATCH, 192, 768, 6, 6, mask_ratio, 96, 384, 2, 3, qkv_bias=True, spatial_dims=3
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, betas=(0.9, 0.95))
    crops = torch.randn(BATCH, 1, *CROP)

    def step() -> None:
        predicted, mask = model(crops)
        target = patchify(crops, PATCH)
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        error = (predicted - (target - mean) / (variance + 1e-6).sqrt()).square().mean(-1)
        loss = (error * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def gemm_gflops(dtype: torch.dtype) -> float:
    """What a large product of matrices reaches here."""
    a, b = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    seconds = interleaved({"gemm": lambda: a @ b})["gemm"]
    return 2 * 2048**3 / seconds / 1e9


def interleaved(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, timed in turns, so that a slow minute of the machine slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(ROUNDS):
        for name, step in steps.items():
            for _ in range(STEPS):
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def flops(step: Callable[[], None]) -> int:
    """Floating-point operations of the products in one step (attention as if it were two products, which it is)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return counter.get_total_flops()


def run() -> dict[str, float]:
    """Seconds a step, ratios (above 1: ours is faster) and the share of the GEMM peak."""
    steps: dict[str, Callable[[], None]] = {
        "monai_float32": monai_step(0.75),
        "ours_float32": our_step(0.75, bf16=False),
        "ours_bf16": our_step(0.75, bf16=True),
        "ours_float32_mask25": our_step(0.25, bf16=False),
        "ours_float32_mask90": our_step(0.9, bf16=False),
        "ours_bf16_mask25": our_step(0.25, bf16=True),
        "ours_bf16_mask90": our_step(0.9, bf16=True),
    }
    seconds = interleaved(steps)
    work = flops(steps["ours_float32"]) / 1e9
    peak32, peak16 = gemm_gflops(torch.float32), gemm_gflops(torch.bfloat16)
    return {
        **{f"seconds_{name}": round(value, 4) for name, value in seconds.items()},
        "monai_over_ours_float32": round(seconds["monai_float32"] / seconds["ours_float32"], 3),
        "monai_over_ours_bf16": round(seconds["monai_float32"] / seconds["ours_bf16"], 3),
        "mask25_over_mask90_float32": round(seconds["ours_float32_mask25"] / seconds["ours_float32_mask90"], 3),
        "mask25_over_mask90_bf16": round(seconds["ours_bf16_mask25"] / seconds["ours_bf16_mask90"], 3),
        "gflop_per_step": round(work, 1),
        "gflops_float32": round(work / seconds["ours_float32"], 1),
        "gflops_bf16": round(work / seconds["ours_bf16"], 1),
        "gemm_peak_float32": round(peak32, 1),
        "gemm_peak_bf16": round(peak16, 1),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    print(json.dumps(run()))
