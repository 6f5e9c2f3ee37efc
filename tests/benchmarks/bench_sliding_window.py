"""Inference on a whole volume, as a head does it, against MONAI's `sliding_window_inference` on the same network."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor

SHAPE, CROP = (96, 128, 128), (64, 64, 64)
ROUNDS = 3


def seconds(of: Callable[[], Tensor]) -> float:
    """Of the fastest round, after one to warm up."""
    of()
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        of()
        found.append(time.perf_counter() - started)
    return min(found)


def run() -> dict[str, float]:
    """Seconds for one volume without mirroring, and how many times the peer's speed ours is, at one precision and as
    each is used by default (ours bfloat16, MONAI's float32)."""
    from domains.domain import find_recipe
    from domains.manifest import Contract
    from domains.medical.heads import segmentation
    from pipelines.models import inference, new_model

    domain, recipe = find_recipe("brain_tumor")
    recipe = recipe.changed({"data.plan": "3d"})
    facts = {"shape": list(SHAPE), "spacing_mm": [1.0, 1.0, 1.0], "axes": "SAR"}
    contract: Contract = domain.plan([facts], recipe).model_copy(update={"crop_shape": CROP})
    model = new_model(recipe, contract).eval()
    volume = torch.randn((1, contract.in_channels, *SHAPE))

    def ours(precision: str) -> Callable[[], Tensor]:
        def once() -> Tensor:
            with torch.inference_mode(), inference(precision):
                return segmentation._infer(model, volume, contract)

        return once

    def monai(precision: str) -> Callable[[], Tensor]:
        def once() -> Tensor:
            with torch.inference_mode(), inference(precision):
                return sliding_window_inference(volume, CROP, 2, model, overlap=0.5, mode="gaussian")

        return once

    mine, same = seconds(ours(recipe.precision)), seconds(monai(recipe.precision))
    plain = seconds(monai("32-true"))
    return {
        "seconds_per_volume": round(mine, 2),
        "speed_against_monai_same_precision": round(same / mine, 2),
        "speed_against_monai_float32": round(plain / mine, 2),
    }


if __name__ == "__main__":
    print(json.dumps(run()))
