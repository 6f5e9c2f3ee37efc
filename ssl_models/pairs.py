"""What objectives over two crops of a subject share: projector, groups as numbers, ranks gathered, panels."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from ssl_models.encoders.vit import ViTEncoder
from ssl_models.protocols import Batch, Encoder, pooled

EXPANSION = 4
"""Hidden over input width of a projector, as in a transformer's perceptron."""


class Projector(nn.Sequential):
    """(B, V, E) -> (B, V, width): linear, BatchNorm over all ranks, ReLU, linear.

    Source: Chen et al. 2020 (arXiv 2002.05709), section 4.2.
    """

    def __init__(self, inputs: int, width: int) -> None:
        hidden = EXPANSION * inputs
        super().__init__(nn.Linear(inputs, hidden), BatchNorm(hidden), nn.ReLU(), nn.Linear(hidden, width))


class BatchNorm(nn.Module):
    """(B, V, E) -> the same: every feature standardised over the crops of all ranks, then scaled and shifted, float32.

    Source: Ioffe, Szegedy 2015 (arXiv 1502.03167).
    Differs: always the statistics of this batch, on all ranks, gradients included; so a call changes nothing, and two
        ranks give what one gives, also on a CPU, where torch's `SyncBatchNorm` does not run.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        every = gathered(x.float()).flatten(0, 1)
        mean = every.mean(0)
        variance = (every - mean).square().mean(0)  # `torch.var_mean` is three times slower
        return (x.float() - mean) * ((variance + 1e-5).rsqrt() * self.weight) + self.bias


def group_numbers(group_id: tuple[str, ...], device: torch.device) -> Tensor:
    """(B,) int64: equal where the group ids are equal, the same in every process (63 bits of their BLAKE2)."""
    digests = [blake2b(group.encode(), digest_size=8).digest() for group in group_id]
    return torch.tensor([int.from_bytes(digest) >> 1 for digest in digests], device=device)


def gathered(x: Tensor) -> Tensor:
    """(B, ...) of every rank, one rank after the other: (ranks * B, ...); `x` itself where there is one rank.

    B must be the same on each rank. Gradients flow back to the rank they belong to, summed over the losses of all
    ranks: averaged over ranks, as data-parallel training does, they are those of the mean of all losses.
    """
    return x if _ranks() == 1 else _Gather.apply(x)


def rank() -> int:
    """The place of this process in `gathered`; 0 where there is one."""
    return distributed.get_rank() if _ranks() > 1 else 0


def _ranks() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(_ranks())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed.chunk(_ranks())[rank()]


def embedded(encoder: Encoder, crops: Tensor) -> Tensor:
    """(B, V, C, *S) -> (B, V, E): `pooled` of the encoder's maps; the pyramid over a transformer's tokens is spared.

    One call for each of the V, as half the batch fits a CPU's cache better (a step is a tenth shorter).
    """
    if isinstance(encoder, ViTEncoder):
        return torch.stack([encoder.tokens(x).mean(1) for x in crops.unbind(1)], 1)
    # Every other crop lies strided in memory and is copied anyway; channels last is what convolutions are fastest in.
    layout = torch.channels_last if crops.dim() == 5 else torch.channels_last_3d
    return torch.stack([pooled(encoder(x.contiguous(memory_format=layout))) for x in crops.unbind(1)], 1)


def unit(x: Tensor) -> Tensor:
    """(..., E) -> float32, of length 1 along E."""
    return F.normalize(x.float(), dim=-1)


def found_panels(batch: Batch, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Panels (B, 1, *S), middle channel: first crops, second crops, and which second crop each first one takes for its.

    Args:
        batch: two crops or more of each subject.
        first: (B, E) embeddings of the first crops.
        second: (B, E) embeddings of the second crops.
    """
    middle = batch.shown_channel
    panels = batch.crops[:, :2, middle : middle + 1]
    nearest = (unit(first) @ unit(second).T).argmax(1)
    return {"crop": panels[:, 0], "other crop": panels[:, 1], "taken for it": panels[nearest, 1]}
