"""Random numbers for a batch, each row from its own seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """Streams of random numbers, one per row: a subject gets the same ones in any batch, worker or rank."""

    generators: tuple[torch.Generator, ...]

    @classmethod
    def of(cls, seeds: Tensor, stream: int) -> Draws:
        """One generator per seed (B,) int64; `stream` keeps two users of the same seed apart."""
        return cls(tuple(torch.Generator().manual_seed(seed ^ stream) for seed in seeds.tolist()))

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0, 1), on the CPU."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.generators])

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal, on the CPU."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])
