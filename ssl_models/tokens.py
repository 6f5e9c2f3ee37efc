"""Tokens for N spatial axes: patchify, masks drawn from sample seeds, sin-cos positions.

Every draw is a hash of (sample seed, counter), not a generator: it costs the same for one sample as for a batch, gives
the same integers on every device, and a sample's mask does not depend on its place in the batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
_CLASS = 2**60


class Split(NamedTuple):
    """Which tokens of each sample are shown and which are not; indices into the N tokens, (B, K) and (B, N - K)."""

    seen: Tensor
    rest: Tensor
    is_target: Tensor
    """(B, N - K) bool, which of `rest` are to be reconstructed: all of them unless a foreground was given."""


def patchify(x: Tensor, patch_shape: tuple[int, ...]) -> Tensor:
    """(B, C, *S) -> (B, N, C * prod(patch_shape)); tokens in row-major order, channels outermost within a token.

    Raises:
        ValueError: if a spatial size is not divisible by the patch.
    """
    grid = grid_of(tuple(x.shape[2:]), patch_shape)
    axes = len(grid)
    split = x.reshape(*x.shape[:2], *(n for pair in zip(grid, patch_shape, strict=True) for n in pair))
    order = (0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2))
    return split.permute(order).reshape(x.shape[0], math.prod(grid), x.shape[1] * math.prod(patch_shape))


def unpatchify(tokens: Tensor, patch_shape: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """(B, N, C * prod(patch_shape)) -> (B, C, *size): the inverse of `patchify`."""
    grid = grid_of(size, patch_shape)
    axes = len(grid)
    split = tokens.reshape(tokens.shape[0], *grid, -1, *patch_shape)
    order = (0, 1 + axes, *(n for axis in range(axes) for n in (1 + axis, 2 + axes + axis)))
    return split.permute(order).reshape(tokens.shape[0], -1, *size)


def grid_of(size: tuple[int, ...], patch_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens along each axis.

    Raises:
        ValueError: if the size is not divisible by the patch.
    """
    if len(size) != len(patch_shape) or any(n % p for n, p in zip(size, patch_shape, strict=True)):
        raise ValueError(f"the spatial size {size} is not divisible by the patch {patch_shape}")
    return tuple(n // p for n, p in zip(size, patch_shape, strict=True))


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """(B, N, E), (B, K) -> (B, K, E): the tokens at `index`. Rows are copied whole, which `gather` does not do."""
    first = torch.arange(len(tokens), device=index.device).unsqueeze(1) * tokens.shape[1]
    return tokens.flatten(0, 1).index_select(0, (index + first).flatten()).view(*index.shape, -1)


def draws(sample_seed: Tensor, count: int) -> Tensor:
    """(B,) int64 -> (B, count) int64 of all 64 bits, distinct within a row: the splitmix64 generator in parallel.

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (doi 10.1145/2714064.2660195).
    Differs: the seed is mixed first, so that neighbouring seeds do not share a stream.
    """
    counter = torch.arange(1, count + 1, device=sample_seed.device) * _GOLDEN
    return _mix(_mix(sample_seed).unsqueeze(1) + counter)


def crop_seeds(sample_seed: Tensor, crops: int) -> Tensor:
    """(B,) -> (B * V,) int64 in [0, 2**62): a seed of its own for each of the V crops of a sample."""
    return (draws(sample_seed, crops) & (2**62 - 1)).flatten()


def draws_below(sample_seed: Tensor, count: int, below: int | Tensor) -> Tensor:
    """(B,) -> (B, count) int64, uniform in [0, below) but for a bias smaller than below / 2**62; `below` broadcasts."""
    return (draws(sample_seed, count) & (2**62 - 1)) % below


def split_tokens(sample_seed: Tensor, tokens: int, mask_ratio: float, foreground: Tensor | None = None) -> Split:
    """Which of N tokens each sample shows: N - `hidden_count(N, mask_ratio)` of them, the same number in every sample.

    With a foreground (B, N) bool the ratio holds among the F tokens that contain any: `hidden_count(F, mask_ratio)` of
    them are hidden and they alone are targets. The others are seen; background tokens drawn at random fill the places
    left, and the background tokens that find no place are dropped: neither seen nor a target. A sample without any
    foreground is treated as if all of it were.
    """
    shown = tokens - hidden_count(tokens, mask_ratio)
    noise = draws(sample_seed, tokens)
    if foreground is None:
        order = noise.argsort(dim=1, stable=True)
        rest = order[:, shown:]
        return Split(order[:, :shown], rest, torch.ones_like(rest, dtype=torch.bool))
    foreground = foreground | ~foreground.any(1, keepdim=True)
    # The foreground tokens with the greatest noise are hidden; the order is seen foreground, background, hidden.
    noise = noise & (_CLASS - 1)
    rank = torch.where(foreground, noise, -1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    hidden = rank < (foreground.sum(1, keepdim=True) * mask_ratio + 0.5).floor()
    order = (noise + _CLASS * (2 * hidden + ~foreground)).argsort(dim=1, stable=True)
    rest = order[:, shown:]
    return Split(order[:, :shown], rest, hidden.gather(1, rest))


def tubes(split: Split, frames: int, tokens: int) -> Split:
    """The split of N tokens of one frame in every frame: what is hidden once is hidden always.

    Nothing hidden can then be copied from a moment before or after it. Frames are outermost, as in `patchify`.

    Source: tube masking of Tong et al. 2022 (arXiv 2203.12602).
    """
    offset = torch.arange(frames, device=split.seen.device).view(1, -1, 1) * tokens

    def repeated(index: Tensor) -> Tensor:
        return (index.unsqueeze(1) + offset).flatten(1)

    return Split(repeated(split.seen), repeated(split.rest), split.is_target.repeat(1, frames))


def hidden_count(tokens: int, mask_ratio: float) -> int:
    """How many of `tokens` are hidden: the ratio rounded half up, so that it never falls with more tokens."""
    return math.floor(tokens * mask_ratio + 0.5)


def block_mask(index: Tensor, block_shape: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """(B, K) indices of blocks -> (B, 1, *size) bool, True inside these blocks."""
    grid = grid_of(size, block_shape)
    mask = torch.zeros(len(index), math.prod(grid), dtype=torch.bool, device=index.device).scatter_(1, index, True)
    mask = mask.view(-1, 1, *grid)
    for axis, length in enumerate(block_shape):
        mask = mask.repeat_interleave(length, dim=2 + axis)
    return mask


def sincos_positions(grid: tuple[int, ...], width: int) -> Tensor:
    """(N, width) float32: for each axis sines, then cosines of a token's index; axes side by side, the rest zero.

    Source: Vaswani et al. 2017 (arXiv 1706.03762); over two axes He et al. 2021 (arXiv 2111.06377).
    Differs: any number of axes; axes come in the order of S; what the axes do not divide evenly is zero.
    """
    frequencies = width // (2 * len(grid))
    omega = 10000.0 ** (-torch.arange(frequencies, dtype=torch.float64) / frequencies)
    index = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid)).view(-1, len(grid), 1)
    angle = index * omega
    table = torch.cat([angle.sin(), angle.cos()], dim=2).flatten(1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1])).float()


def _mix(z: Tensor) -> Tensor:
    """The finaliser of splitmix64: a bijection of 64 bits; int64 products wrap around."""
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right (torch's keeps the sign)."""
    return (z >> bits) & (2 ** (64 - bits) - 1)
