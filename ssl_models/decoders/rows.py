"""Lanes row by row: for each slot of a lane and each row of cells, in which cell it is and whether it is there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL = 4
"""Pixels of a crop along each side of a cell; a row of cells is a row anchor, and its middle is where x is told."""
DILATIONS = (1, 2, 4, 8)
"""Of the convolutions that carry what is known at the bottom of a lane to its top."""
NEIGHBOURS = 2
"""Cells on each side of the likeliest one whose mean is the place of a lane."""
PLACE_WEIGHT = 0.2
"""Of the distance in cells, beside the two cross-entropies."""


class RowDecoder(nn.Module):
    """Every feature map on one grid of cells, where convolutions see far; then a score of each cell for each slot.

    A lane is there in a row by what its likely cells say. Of a clip every frame is judged for itself, from maps that
    know the others.

    Source: Qin et al. 2020, arXiv 2004.11757 (a row is a choice among cells); Qin et al. 2022, arXiv 2206.07389 (a lane
        is there or not, by itself; x is an expectation).
    Differs: convolutional instead of fully connected, so that few labels are enough, with each cell told where in the
        crop it lies; rows only, no columns for lanes at the side.
    """

    def __init__(
        self, *, widths: tuple[int, ...], strides: tuple[tuple[int, ...], ...], slots: int, width: int = 64
    ) -> None:
        """A decoder for the encoder with these `widths` and `strides`.

        Args:
            widths: channels of each feature map, fine to coarse.
            strides: stride of each feature map relative to the input, per axis; the first is all ones.
            slots: how many lanes there may be.
            width: channels on the grid.

        Raises:
            ValueError: the first map is not at full resolution, or the axes are neither (H, W) nor (T, H, W).
        """
        super().__init__()
        if set(strides[0]) != {1} or len(strides[0]) not in (2, 3):
            raise ValueError(
                f"the first map must have the full resolution of images or clips, its stride: {strides[0]}"
            )
        self.slots = slots
        self.into = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)
        self.place = nn.Conv2d(2, width, 1)
        self.mix = nn.ModuleList(_Block(width, dilation) for dilation in DILATIONS)
        self.cells = nn.Conv2d(width, slots, 1)
        self.there = nn.Conv2d(width, slots, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Scores of R rows of G cells, and as the last entry of each row the logit that a lane is there.

        Args:
            features: feature maps [(B, widths[i], *S / strides[i])], fine to coarse, S = (H, W) or (T, H, W).

        Returns:
            (B, slots, R, G + 1), of a clip (B, T, slots, R, G + 1); R = H / `CELL`, G = W / `CELL`.
        """
        clip = features[0].ndim == 5
        maps = _frame_by_frame(features) if clip else features
        rows, cells = (side // CELL for side in maps[0].shape[-2:])
        joined = self.place(_coordinates(rows, cells).to(maps[0]))
        for layer, one in zip(self.into, maps, strict=True):
            joined = joined + layer(_on_grid(one, rows, cells))
        for block in self.mix:
            joined = block(joined)
        scores = self.cells(joined)
        there = (scores.softmax(-1).detach() * self.there(joined)).sum(-1, keepdim=True)
        found = torch.cat([scores, there], -1)
        return found.unflatten(0, (-1, features[0].shape[2])) if clip else found


class _Block(nn.Module):
    """Two convolutions beside a shortcut, the first one seeing far."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.far = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.near = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.norms
        return x + self.near(F.silu(second(self.far(F.silu(first(x))))))


def _frame_by_frame(features: list[Tensor]) -> list[Tensor]:
    """(B, C, T', H, W) maps of clips -> (B * T, C, H, W), each frame of T with what its moment's map says."""
    frames = features[0].shape[2]
    at = [torch.arange(frames, device=one.device) * one.shape[2] // frames for one in features]
    return [one[:, :, index].transpose(1, 2).flatten(0, 1) for one, index in zip(features, at, strict=True)]


def _on_grid(one: Tensor, rows: int, cells: int) -> Tensor:
    if one.shape[-1] > cells:
        return F.avg_pool2d(one, (one.shape[-2] // rows, one.shape[-1] // cells))
    return F.interpolate(one, (rows, cells), mode="bilinear", align_corners=False)


def _coordinates(rows: int, cells: int) -> Tensor:
    """(1, 2, R, G): where a cell's middle lies, from -1 to 1, along each axis."""
    y, x = (2 * (torch.arange(n) + 0.5) / n - 1 for n in (rows, cells))
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]


def row_loss(rows: Tensor, targets: Tensor) -> Tensor:
    """() loss of `RowDecoder`'s rows, in float32 also under autocast; 0 where nothing is labelled.

    The cell of a lane is learned by cross-entropy, shared between the two cells next to its x, and by the smooth
    distance of the expected place; whether it is there by binary cross-entropy.

    Args:
        rows: (..., slots, R, G + 1).
        targets: (..., slots, R) x in pixels of the crop at the middle of each row; nan where no lane is, infinite
            where nobody looked.
    """
    with torch.autocast(rows.device.type, enabled=False):
        scores, there = rows[..., :-1].float(), rows[..., -1].float()
        labelled, present = ~targets.isinf(), targets.isfinite()
        exists = F.binary_cross_entropy_with_logits(there, present.float(), reduction="none")
        total = (exists * labelled).sum() / labelled.sum().clamp_min(1)
        count, last = present.sum().clamp_min(1), scores.shape[-1] - 1
        place = (torch.where(present, targets, 0.0) / CELL - 0.5).clamp(0, last)
        left = place.floor().clamp(max=last - 1)
        share = (place - left)[..., None]
        chances = scores.log_softmax(-1)
        at = left.long()[..., None]
        likely = (1 - share) * chances.gather(-1, at) + share * chances.gather(-1, at + 1)
        expected = (chances.exp() * torch.arange(last + 1, device=rows.device)).sum(-1)
        away = F.smooth_l1_loss(expected, place, reduction="none")
        return total + ((PLACE_WEIGHT * away - likely[..., 0]) * present).sum() / count


def row_places(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where the lanes are: x in pixels of the crop (..., slots, R), and the probability that they are there, the same.

    x is the mean of the likeliest cell and its neighbours, weighted by their probability: another lane's cells far away
    in the row do not pull at it.
    """
    scores = rows[..., :-1].float()
    cells = torch.arange(scores.shape[-1], device=rows.device)
    near = (cells - scores.argmax(-1, keepdim=True)).abs() <= NEIGHBOURS
    chances = scores.masked_fill(~near, -torch.inf).softmax(-1)
    return ((chances * cells).sum(-1) + 0.5) * CELL, rows[..., -1].float().sigmoid()
