"""Jigsaw: cut a crop into tiles, shuffle them and tell by which of many known permutations."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled
from ssl_models.tokens import crop_seeds, draws_below

TILE_SHARE = 64 / 75
"""Edge of a tile as a share of its cell's."""
HEAD_WIDTH = 512
_RESOLUTION = 2**20


class Jigsaw(nn.Module):
    """Cross-entropy of the permutation, told from the features of all tiles side by side, each encoded by itself.

    Images are cut 3 x 3, volumes 2 x 2 x 2; of a recording the frames are cut 3 x 3, so that a tile is a tube. Against
    short cuts: a tile is smaller than its cell and lies anywhere in it, so that edges do not continue; each tile and
    channel is standardised, so that brightness does not tell neighbours; in some crops all channels show the same one,
    so that shifts between channels (chromatic aberration) do not tell where in the lens a tile was.

    Source: Noroozi and Favaro 2016 (arXiv 1603.09246); in volumes Taleb et al. 2020 (arXiv 2006.03829).
    Differs: the smallest distance to the permutations chosen before decides first, then the mean one (see
        `distant_permutations`); one channel is repeated instead of an average; every draw comes from sample seeds.
    """

    needs = Needs()
    decoder = None

    def __init__(self, encoder: Encoder, *, grid: int = 3, permutations: int = 64, single_channel: float = 0.3) -> None:
        """A solver of puzzles around `encoder`.

        Args:
            encoder: sees tiles, zero-padded to a multiple of its coarsest stride.
            grid: tiles along each axis of an image or frame, 2 or 3; a volume always has 2.
            permutations: how many are told apart, at most; four tiles have only 24.
            single_channel: share of crops that show one channel, drawn among those present, in place of all.

        Raises:
            ValueError: if the grid is neither 2 nor 3, or there are fewer than 2 permutations.
        """
        super().__init__()
        if grid not in (2, 3) or permutations < 2:
            raise ValueError(f"grid is {grid}, permutations {permutations}, but must be 2 or 3, and at least 2")
        self.encoder, self.single_channel, self.permutations = encoder, single_channel, permutations
        self.grid = grid
        # An encoder of three axes serves volumes and recordings: there is room for either.
        self.room = max(grid**2, 2**encoder.spatial_axes)
        self.head = nn.Sequential(
            nn.Linear(self.room * encoder.widths[-1], HEAD_WIDTH), nn.GELU(), nn.Linear(HEAD_WIDTH, permutations)
        )

    def forward(self, batch: Batch) -> Losses:
        tiles, drawn, table = self._shuffled(batch)
        features, logits = self._solve(tiles, table)
        loss = F.cross_entropy(logits, drawn)
        accuracy = (logits.argmax(1) == drawn).float().mean()
        embedding = features.detach().float().mean(1).unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=loss, parts={"cross_entropy": loss.detach(), "accuracy": accuracy}, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S) of the middle channel of each first crop: original, shuffled, restored as predicted."""
        tiles, _, table = self._shuffled(batch)
        tiles = tiles[:: batch.crops.shape[1]]
        found = self._solve(tiles, table)[1].argmax(1)
        restored = _in_order(tiles, table[found].argsort(1))
        size, grid = tuple(batch.crops.shape[3:]), self._grid(batch)
        middle = slice(batch.shown_channel, batch.shown_channel + 1)
        panels = {"shuffled": tiles, "restored": restored}
        laid = {name: lay(panel[:, :, middle], grid, size) for name, panel in panels.items()}
        return {"original": batch.crops[:, 0, middle], **laid}

    def _solve(self, tiles: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles (B, N, C, *tile) -> features of each (B, N, E), logits of the permutations of `table` (B, P)."""
        stride = self.encoder.strides[-1]
        padding = [(0, -length % step) for length, step in zip(tiles.shape[3:], stride, strict=True)]
        padded = F.pad(tiles.flatten(0, 1), [n for pair in reversed(padding) for n in pair])
        features = pooled(self.encoder(padded)).unflatten(0, tiles.shape[:2])
        joined = F.pad(features, (0, 0, 0, self.room - tiles.shape[1])).flatten(1)
        return features, self.head(joined)[:, : len(table)].float()

    @torch.no_grad()
    def _shuffled(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Shuffled tiles (B * V, N, C, *tile), permutation of each crop (B * V,), and the table of permutations."""
        crops, each = batch.crops.flatten(0, 1), batch.crops.shape[1]
        seeds = crop_seeds(crop_seeds(batch.sample_seed, each), 3).unflatten(0, (-1, 3))
        tiles = cut(crops, self._grid(batch), seeds[:, 0])
        present = batch.channels_present
        if present is not None:
            present = present.repeat_interleave(each, 0)
        tiles = with_single_channel(standardised(tiles), self.single_channel, seeds[:, 1], present)
        table = distant_permutations(tiles.shape[1], self.permutations).to(crops.device)
        drawn = draws_below(seeds[:, 2], 1, len(table))[:, 0]
        return _in_order(tiles, table[drawn]), drawn, table

    def _grid(self, batch: Batch) -> tuple[int, ...]:
        axes = self.encoder.spatial_axes
        return (1, self.grid, self.grid) if batch.time_axis else (self.grid,) * 2 if axes == 2 else (2,) * axes


def cut(crops: Tensor, grid: tuple[int, ...], sample_seed: Tensor) -> Tensor:
    """Crops (B, C, *S) -> tiles (B, N, C, *tile) in row-major order, each at a place of its cell drawn by itself.

    A cell is S / grid rounded down; a tile's edge is `TILE_SHARE` of it, or all of it along an axis that is not cut.

    Raises:
        ValueError: if a crop has fewer pixels than cells along an axis.
    """
    size, axes = tuple(crops.shape[2:]), len(grid)
    if any(length < cells for length, cells in zip(size, grid, strict=True)):
        raise ValueError(f"a crop of {size} cannot be cut into {grid} tiles")
    cell, edge = _cell_and_edge(size, grid)
    corner = torch.cartesian_prod(*(torch.arange(cells) * length for cells, length in zip(grid, cell, strict=True)))
    room = torch.tensor([c - e + 1 for c, e in zip(cell, edge, strict=True)]).repeat(len(corner))
    jitter = draws_below(sample_seed, len(room), room.to(sample_seed.device)).unflatten(1, corner.shape)
    start = jitter + corner.to(jitter.device)
    index = [torch.arange(len(crops), device=crops.device).view(-1, *[1] * (axes + 1))]
    for axis, length in enumerate(edge):
        along = start[..., axis, None] + torch.arange(length, device=start.device)
        index.append(along.view(*along.shape[:2], *(length if i == axis else 1 for i in range(axes))))
    return crops.movedim(1, -1)[tuple(index)].movedim(-1, 2)


def standardised(tiles: Tensor) -> Tensor:
    """Tiles (B, N, C, *tile) with mean 0 and deviation 1 in each tile and channel; a constant one is zero."""
    axes = tuple(range(3, tiles.ndim))
    centred = tiles - tiles.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + 1e-6).sqrt()


def with_single_channel(tiles: Tensor, share: float, sample_seed: Tensor, present: Tensor | None) -> Tensor:
    """Tiles (B, N, C, *tile), in a `share` of the B with one channel, drawn among those present (B, C), in all C."""
    draw = draws_below(sample_seed, 1 + tiles.shape[2], _RESOLUTION)
    chosen, rank = draw[:, 0] < share * _RESOLUTION, draw[:, 1:]
    channel = (rank if present is None else rank.masked_fill(~present, -1)).argmax(1)
    one = tiles[torch.arange(len(tiles), device=tiles.device), :, channel].unsqueeze(2)
    return torch.where(chosen.view(-1, *[1] * (tiles.ndim - 1)), one, tiles)


def lay(tiles: Tensor, grid: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """Tiles (B, N, C, *tile) -> pictures (B, C, *size), each tile in the middle of its cell, zero between them."""
    cell, edge = _cell_and_edge(size, grid)
    picture = tiles.new_zeros(len(tiles), tiles.shape[2], *size)
    for n, place in enumerate(product(*map(range, grid))):
        start = [p * c + (c - e) // 2 for p, c, e in zip(place, cell, edge, strict=True)]
        inside = [slice(s, s + e) for s, e in zip(start, edge, strict=True)]
        picture[(slice(None), slice(None), *inside)] = tiles[:, n]
    return picture


@cache
def distant_permutations(tiles: int, count: int) -> Tensor:
    """(min(count, tiles!), tiles) int64 permutations that differ in many places; the first leaves all as it is.

    Greedy: each next one is as far as possible from the nearest one chosen before, among these as far as possible from
    all of them, among these the first in lexicographic order.

    Source: Noroozi and Favaro 2016 (arXiv 1603.09246), algorithm 1.
    Differs: there the mean distance alone decides, which after a Latin square of permutations is equal for all the
        others, so that two may differ in two places only; and the first one is random.
    """
    every = _all_permutations(tiles).T.contiguous()
    nearest = torch.full((every.shape[1],), tiles + 1, dtype=torch.int32)
    total, chosen = torch.zeros_like(nearest), [0]
    while len(chosen) < min(count, math.factorial(tiles)):
        distance = (every != every[:, chosen[-1:]]).sum(0, dtype=torch.int32)
        nearest, total = torch.minimum(nearest, distance), total + distance
        chosen.append(int((nearest * (tiles * count) + total).argmax()))
    return every[:, chosen].T.long()


def _all_permutations(n: int) -> Tensor:
    """(n!, n) uint8 in lexicographic order."""
    if n == 0:
        return torch.zeros(1, 0, dtype=torch.uint8)
    rest = _all_permutations(n - 1)
    return torch.cat([F.pad(rest + (rest >= k), (1, 0), value=k) for k in range(n)])


def _in_order(tiles: Tensor, order: Tensor) -> Tensor:
    """(B, N, ...), (B, N) -> place n holds tile order[n]."""
    return tiles[torch.arange(len(tiles), device=tiles.device).unsqueeze(1), order]


def _cell_and_edge(size: tuple[int, ...], grid: tuple[int, ...]) -> tuple[list[int], list[int]]:
    cell = [length // cells for length, cells in zip(size, grid, strict=True)]
    edge = [c if cells == 1 else max(1, round(c * TILE_SHARE)) for c, cells in zip(cell, grid, strict=True)]
    return cell, edge


OBJECTIVE = Jigsaw
