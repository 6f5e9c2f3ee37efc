"""The medical painter: lesions with soft irregular edges, of a size in mm, pasted into unlabelled crops."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from domains.manifest import Contract
from domains.medical.draws import Draws
from domains.recipe import Recipe
from ssl_models.protocols import Painter

# From general knowledge of brain lesions and by eye on painted development patients; no figure was optimised against a
# label. Not label-blind though: outlines (28 patients) and lesion sizes (55) of the development groups of brain_mri_lgg
# had been seen, and the radii were chosen large with these in mind. Count them when a zero-label result is printed.
RADIUS_MM = (8.0, 35.0)
"""Mean radius, log-uniform; at most `RADIUS_SHARE` of the crop's shorter side in the slice."""
RADIUS_SHARE = 0.25
AXIS_RATIO = (0.65, 1.5)
ROUGHNESS = (0.15, 0.5)
"""Height of the edge's irregularity, in radii."""
EDGE_VOXELS = (0.4, 1.6)
"""Softness of the edge."""
ORDINARY = 1.0
"""A lesion starts in tissue within this of the head's median (0) where there is any: not in fat, bone or air."""
SIMILARITY = (0.0, 0.45)
"""How strongly a lesion keeps to the tissue it starts in: radii lost per local standard deviation of difference."""
DEVIATION = (0.3, 1.0)
"""The standard deviation of the tissue around is kept within these (the contract's unit is the robust one of the head):
bone or another lesion nearby must not make a contrast that no scanner shows."""
CONTRAST = (1.2, 3.5)
"""Of a bright lesion against the tissue around, in its standard deviations."""
DARK_CHANCE = 0.12
DARK_CONTRAST = (-2.0, -1.0)
TEXTURE = (0.1, 0.5)
"""Variation inside, as a share of the contrast."""
CORE_CHANCE = 0.25
"""Of a necrotic or cystic core that is darker than the tissue around."""
OPACITY = (0.7, 1.0)
DONOR_CHANCE = 0.15
"""Of a lesion filled with the tissue of another subject: that of the row it is paired with (0 and 1, 2 and 3, ...)."""
DONOR_CONTRAST = (0.8, 2.0)
"""Of such a patch, on average, against the tissue around, in its standard deviations."""
CLEAN_CHANCE = 0.3
"""Share of crops that stay as they are; their label is empty."""
SHRINK_PER_SLICE = (0.05, 0.3)
"""Radii lost from one neighbouring slice to the next (2D inputs carry neighbours as channels)."""

_STREAM = 0x5EED_BA17


def make_painter(contract: Contract, recipe: Recipe) -> Painter:
    """The painter for crops of this contract."""
    return LesionPainter(contract.rules["neighbours"] if contract.rules["kind"] == "2d" else 0)


@dataclass(frozen=True)
class LesionPainter:
    """Paints at most one lesion into each crop.

    A row depends on its own seed and crop, and on the crop of the row it is paired with where it is given a patch of
    that; never on the rest of the batch, so ranks with an even number of rows paint what one rank would.
    """

    neighbours: int = 0
    """Slices on each side that the channels carry, channel-major (2D inputs); 0 for volumes."""

    def __call__(
        self, crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, sample_seed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, C, *S), (B, len(S)), (B, 1, *S), (B,) -> painted crops (B, C, *S), labels (B, 1, *S) int64 in {0, 1}.

        The label marks the lesion where it covers at least half of a voxel, in the centre slice of a 2D input.
        """
        draws = Draws.of(sample_seed, _STREAM)
        shape = crops.shape[2:]
        if foreground is None:
            foreground = torch.ones_like(crops[:, :1], dtype=torch.bool)
        spacing = torch.ones(len(crops), len(shape)) if spacing_mm is None else spacing_mm
        uniform = draws.uniform(16).to(crops)
        inside = foreground.to(crops.dtype)
        deep = _box_mean(inside, [2 * (size // 12) + 1 for size in shape])
        coarse, fine, texture = (_smooth_noise(draws, shape, cell).to(crops) for cell in (10, 5, 6))

        slices = crops.view(len(crops), -1, 2 * self.neighbours + 1, *shape)
        tissue = _box_mean(slices[:, 0, self.neighbours, None], [3] * len(shape))
        ordinary = _box_mean((tissue.abs() < ORDINARY).to(crops.dtype), [min(5, size) | 1 for size in shape])
        centre = _place(deep.clamp(max=0.98) + (deep > 0.98) * (ordinary > 0.9), draws)
        distance, radius = _ellipsoid(centre, shape, spacing.to(crops), uniform, draws.normal(3, 3).to(crops))
        mean, std = _local_figures(tissue, inside * (distance < 1.8))

        rough = _between(uniform[:, 0], ROUGHNESS, crops)
        odd = ((tissue - mean).abs() / std - 1).clamp(min=0, max=4)
        level = 1 - distance + rough * (coarse + 0.4 * fine) - _between(uniform[:, 1], SIMILARITY, crops) * odd
        offsets = torch.arange(-self.neighbours, self.neighbours + 1, device=crops.device).abs().to(crops)
        shrink = _between(uniform[:, 2], SHRINK_PER_SLICE, crops) * offsets.view(1, -1, *[1] * len(shape))
        steep = radius / spacing.to(crops)[:, -1].view_as(radius) / _between(uniform[:, 3], EDGE_VOXELS, crops)
        room = ((deep - 0.72) / 0.16).clamp(0, 1) * inside * (uniform[:, 4] >= CLEAN_CHANCE).view_as(radius)
        alpha = torch.sigmoid((level - shrink) * steep) * room

        value = _inside_value(uniform, mean, std, level, texture, crops)
        donated = (draws.uniform(1)[:, 0] < DONOR_CHANCE).view_as(mean)
        value = torch.where(donated, _donor_value(tissue, distance, mean, std, uniform), value)
        opacity = _between(uniform[:, 5], OPACITY, crops)
        # Only the smooth part of the tissue is replaced: its grain stays, as a scanner's noise would.
        painted = slices + (alpha * opacity * (value - tissue))[:, None]
        label = alpha[:, self.neighbours, None] > 0.5
        return painted.view_as(crops), label.long()


def _inside_value(uniform: Tensor, mean: Tensor, std: Tensor, level: Tensor, texture: Tensor, like: Tensor) -> Tensor:
    """(B, 1, *S) intensity of the lesion: tissue plus contrast, textured, sometimes with a dark core."""
    dark = (uniform[:, 6] < DARK_CHANCE).view_as(mean)
    strength = [_between(uniform[:, 7], limits, like) for limits in (DARK_CONTRAST, CONTRAST)]
    contrast = std * torch.where(dark, strength[0], strength[1])
    value = mean + contrast * (1 + _between(uniform[:, 8], TEXTURE, like) * texture)
    has_core = (uniform[:, 9] < CORE_CHANCE).view_as(mean)
    core = torch.sigmoid((level - _between(uniform[:, 10], (0.4, 0.8), like)) * 12) * has_core
    return torch.lerp(value, mean - std * _between(uniform[:, 11], (0.5, 2.0), like), core)


def _donor_value(tissue: Tensor, distance: Tensor, mean: Tensor, std: Tensor, uniform: Tensor) -> Tensor:
    """(B, 1, *S) tissue of the paired row at the same place, shifted to stand out against what it replaces."""
    rows = torch.arange(len(tissue), device=tissue.device)
    other = tissue[(rows ^ 1).clamp(max=len(tissue) - 1)]
    donor_mean, _ = _local_figures(other, (distance < 1).to(tissue.dtype))
    return other - donor_mean + mean + std * _between(uniform[:, 7], DONOR_CONTRAST, tissue)


def _place(fitness: Tensor, draws: Draws) -> Tensor:
    """(B, n) voxel index of each lesion's centre: one of the fittest places (B, 1, *S), about equally likely."""
    n, shape = fitness.ndim - 2, fitness.shape[2:]
    stride = [min(4, size) for size in shape]
    pool = F.max_pool2d if n == 2 else F.max_pool3d
    places = pool(fitness, stride, stride)
    score = places + 0.01 * draws.uniform(*places.shape[1:]).to(places)
    chosen = score.flatten(1).argmax(1)
    index = torch.stack(torch.unravel_index(chosen, places.shape[2:]), dim=1)
    return (index + draws.uniform(n).to(places)) * torch.tensor(stride).to(places)


def _ellipsoid(
    centre: Tensor, shape: torch.Size, spacing: Tensor, uniform: Tensor, frame: Tensor
) -> tuple[Tensor, Tensor]:
    """Distance of every voxel from the centre in radii (B, 1, *S), and the mean radius in mm (B, 1, *1s)."""
    n, batch = len(shape), len(centre)
    extent = torch.tensor(shape[-2:]).to(spacing) * spacing[:, -2:]
    low, high = (torch.tensor(limit).log().to(spacing) for limit in RADIUS_MM)
    radius = torch.exp(low + (high - low) * uniform[:, 12]).minimum(RADIUS_SHARE * extent.amin(1))
    ratio = _between(uniform[:, 13 : 13 + n], AXIS_RATIO, None)
    rotation = torch.linalg.qr(frame[:, :n, :n])[0]
    # distance = |M (x - c)|, with one matrix product for all voxels
    metric = rotation / (radius[:, None] * ratio)[:, None, :] * spacing[:, :, None]
    axes = [torch.arange(size).to(spacing) for size in shape]
    voxels = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(1, -1, n)
    distance = ((voxels - centre[:, None]) @ metric).norm(dim=-1)
    return distance.view(batch, 1, *shape), radius.view(batch, 1, *[1] * n)


def _local_figures(tissue: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, 1, *1s) of the tissue (B, 1, *S) under a weight."""
    axes = tuple(range(2, tissue.ndim))
    total = weight.sum(axes, keepdim=True).clamp(min=1)
    mean = (tissue * weight).sum(axes, keepdim=True) / total
    variance = ((tissue - mean) ** 2 * weight).sum(axes, keepdim=True) / total
    return mean, variance.sqrt().clamp(*DEVIATION)


def _smooth_noise(draws: Draws, shape: torch.Size, cell: int) -> Tensor:
    """(B, 1, *S) noise of deviation about 1 that varies over `cell` voxels."""
    noise = draws.normal(1, *[size // cell + 2 for size in shape])
    return F.interpolate(noise, size=tuple(shape), mode="bicubic" if len(shape) == 2 else "trilinear") * 1.3


def _box_mean(x: Tensor, window: list[int]) -> Tensor:
    """Mean over a box of odd sides, one axis after the other; outside counts as zero."""
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    for axis, size in enumerate(window):
        kernel = [size if i == axis else 1 for i in range(len(window))]
        x = pool(x, kernel, 1, [k // 2 for k in kernel])
    return x


def _between(uniform: Tensor, limits: tuple[float, float], like: Tensor | None) -> Tensor:
    """Uniform numbers (B,) stretched to the limits; shaped (B, 1, *1s) to go with `like` if given."""
    value = limits[0] + (limits[1] - limits[0]) * uniform
    return value if like is None else value.view(-1, *[1] * (like.ndim - 1))
