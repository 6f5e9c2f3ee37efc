"""Frames seen whole: what a network says of every frame at once, with no windows and no seams between them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domains.driving.entries import normalised
from domains.manifest import Contract


def logits_of(model: nn.Module, frames: np.ndarray, contract: Contract) -> tuple[Tensor, int]:
    """(N, K, h, w) what the model says of stored frames, on the CPU, and its stride: pixels of the frame per cell.

    The edges are repeated to the right and below until the encoder's strides fit, so the maps may reach further than
    the frame does.

    Args:
        model: encoder and decoder of single frames.
        frames: (N, H, W, 3) uint8 on the stored grid.
        contract: of the model.
    """
    images = normalised(frames, contract.rules["colour_mean"], contract.rules["colour_deviation"])
    steps = [
        math.lcm(math.prod(axis), patch) for *axis, patch in zip(*contract.pooling, contract.patch_shape, strict=True)
    ]
    below, right = (-length % step for length, step in zip(frames.shape[1:3], steps, strict=True))
    device, training = next(model.parameters()).device, model.training
    padded = F.pad(torch.from_numpy(images).movedim(1, 0).to(device), (0, right, 0, below), mode="replicate")
    model.eval()
    try:
        with torch.inference_mode():
            logits = model(padded)
    finally:
        model.train(training)
    return logits.cpu().float().clone(), padded.shape[-1] // logits.shape[-1]
