"""Rotation: turn a crop by right angles and tell how it was turned."""

from __future__ import annotations

from itertools import permutations, product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled
from ssl_models.tokens import crop_seeds, draws_below


class Turn(NamedTuple):
    """A rotation by right angles: axis i of the result is axis `source[i]` of the crop, reversed where `flipped[i]`."""

    source: tuple[int, ...]
    flipped: tuple[bool, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """(C, *S) -> (C, *S turned); no value is changed."""
        turned = x.permute(0, *(1 + axis for axis in self.source))
        return turned.flip([1 + axis for axis, reverse in enumerate(self.flipped) if reverse])

    def back(self, x: Tensor) -> Tensor:
        """The crop that was turned to `x`."""
        unflipped = x.flip([1 + axis for axis, reverse in enumerate(self.flipped) if reverse])
        return unflipped.permute(0, *(1 + self.source.index(axis) for axis in range(len(self.source))))


def all_turns(axes: int) -> tuple[Turn, ...]:
    """The rotations of a square (4) or a cube (24): permutations of axes with signs of determinant 1; first: none."""
    signed = product(permutations(range(axes)), product((False, True), repeat=axes))
    return tuple(Turn(source, flipped) for source, flipped in signed if (_odd(source) + sum(flipped)) % 2 == 0)


def possible(turn: Turn, size: tuple[int, ...], time_axis: bool) -> bool:
    """Whether a crop of `size` keeps its shape, and time, if it is the first axis, its direction."""
    keeps_time = turn.source[0] == 0 and not turn.flipped[0]
    return tuple(size[axis] for axis in turn.source) == size and (keeps_time or not time_axis)


class Rotation(nn.Module):
    """Cross-entropy of which rotation a crop was turned by, told from the pooled features.

    Only rotations that keep the crop's shape are drawn and told apart: axes of equal length are exchanged, half turns
    are always possible. Images: 4 where square, else 2. Volumes: 24 where cubic, 8 where two axes are equal, else 4. In
    a recording all frames are turned alike, in their plane.

    Source: Gidaris et al. 2018 (arXiv 1803.07728); in volumes Taleb et al. 2020 (arXiv 2006.03829).
    Differs: each crop is turned once, drawn from its seed, not seen in all rotations; 24 of a cube instead of 10.
    """

    needs = Needs()
    decoder = None

    def __init__(self, encoder: Encoder) -> None:
        """A teller of rotations around `encoder`."""
        super().__init__()
        self.encoder = encoder
        self.turns = all_turns(encoder.spatial_axes)
        self.head = nn.Linear(encoder.widths[-1], len(self.turns))

    def forward(self, batch: Batch) -> Losses:
        turned, drawn, allowed = self._turned(batch)
        features = pooled(self.encoder(turned))
        logits = self.head(features)[:, allowed].float()
        loss = F.cross_entropy(logits, drawn)
        accuracy = (logits.argmax(1) == drawn).float().mean()
        embedding = features.detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=loss, parts={"cross_entropy": loss.detach(), "accuracy": accuracy}, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S) of the middle channel of each first crop: original, rotated, turned back as predicted."""
        turned, _, allowed = self._turned(batch)
        turned = turned[:: batch.crops.shape[1]]
        found = self.head(pooled(self.encoder(turned)))[:, allowed].argmax(1)
        back = torch.stack([self.turns[allowed[i]].back(x) for i, x in zip(found.tolist(), turned, strict=True)])
        middle = batch.shown_channel
        panels = {"original": batch.crops[:, 0], "rotated": turned, "turned back": back}
        return {name: panel[:, middle : middle + 1] for name, panel in panels.items()}

    def _turned(self, batch: Batch) -> tuple[Tensor, Tensor, list[int]]:
        """Turned crops (B * V, C, *S), which of the allowed turns each got (B * V,), and the allowed turns' places."""
        size = tuple(batch.crops.shape[3:])
        allowed = [i for i, turn in enumerate(self.turns) if possible(turn, size, batch.time_axis)]
        drawn = draws_below(crop_seeds(batch.sample_seed, batch.crops.shape[1]), 1, len(allowed))[:, 0]
        crops = zip(drawn.tolist(), batch.crops.flatten(0, 1), strict=True)
        return torch.stack([self.turns[allowed[i]](crop) for i, crop in crops]), drawn, allowed


def _odd(order: tuple[int, ...]) -> bool:
    """Whether a permutation has an odd number of inversions."""
    return sum(a > b for i, a in enumerate(order) for b in order[i + 1 :]) % 2 == 1


OBJECTIVE = Rotation
