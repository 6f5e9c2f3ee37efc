"""Augmentation of medical crops on batched tensors: one affine resampling, then intensities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from domains.manifest import Contract
from domains.medical.draws import Draws

FLIP_CHANCE = 0.5
"""Left-right; the only mirror axis of a body that leaves it a body."""
LEFT_RIGHT_AXIS = -1
"""Of a canonical volume (D, H, W) or slice (H, W)."""
GAMMA = (0.7, 1.5)
CONTRAST = (0.75, 1.25)
BRIGHTNESS = 0.2
NOISE = 0.1
"""Brightness shift and noise level, as a fraction of the crop's standard deviation."""
SMOOTHING = (-0.3, 0.7)
"""Share of the crop replaced by its 3-voxel mean; negative sharpens."""
CHANCE = 0.5
"""Of each intensity change; the affine change is always made."""
ANISOTROPIC = 2.0
"""Ratio of slice distance to pixel size from which a volume is rotated within its slices only."""

_STREAM = 0x5EED_A06
"""Keeps these draws apart from other users of the same seed."""


@dataclass(frozen=True)
class Moves:
    """How far a crop is turned, enlarged and shifted."""

    rotation_degrees: float
    scale: tuple[float, float]
    shift: float | None
    """Of the crop's extent along each axis; None: as far as what is cut out stays inside, so that with a scale above 1
    any part of the image may be the crop."""


VOLUMES = Moves(rotation_degrees=15.0, scale=(0.8, 1.25), shift=0.06)
XRAYS = Moves(rotation_degrees=7.0, scale=(1.0, 2**0.5), shift=None)
"""A part of the image with half of its area or more, hardly turned: patients stand or lie straight."""


def moves_of(contract: Contract) -> Moves:
    """What suits the contract's kind of data."""
    return XRAYS if contract.rules["kind"] == "xray" else VOLUMES


def may_mirror(contract: Contract) -> bool:
    """Whether crops may be mirrored: left and right lie at the ends of their last axis, which in sagittal slices they
    do not; and never X-rays of the chest, whose heart would lie on the wrong side."""
    axes: str = contract.rules["axes"]
    return axes[LEFT_RIGHT_AXIS] == "R" and contract.rules["kind"] != "xray"


def augment_crops(
    crops: Tensor,
    targets: Tensor | None,
    foreground: Tensor | None,
    seeds: Tensor,
    spacing_mm: Tensor | None,
    *,
    mirror: bool = True,
    moves: Moves = VOLUMES,
    channels: int = 1,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Flipped, turned, scaled and shifted crops with changed intensities; labels and foreground move along.

    Args:
        crops: (B, C, *S) float32; in the 2D plan C holds neighbouring slices of each channel, which all move alike.
        targets: (B, 1, *S) int64, resampled to the nearest label.
        foreground: (B, 1, *S) bool.
        seeds: (B,) int64; a row of the result depends on its own seed alone.
        spacing_mm: (B, len(S)) float32; None counts as equal along all axes.
        mirror: whether the last axis runs left to right, so that half of the crops may be flipped along it.
        moves: how far they are turned, scaled and shifted.
        channels: of the recipe; each changes by its own mean, spread and range, and one that is all zero stays so.

    Returns:
        The three inputs changed, same shapes and dtypes.
    """
    draws = Draws.of(seeds, _STREAM)
    matrix = _affine(draws, crops.shape[2:], spacing_mm, mirror, moves).to(crops)
    grid = F.affine_grid(matrix, [len(crops), 1, *crops.shape[2:]], align_corners=False)
    moved = F.grid_sample(crops, grid, padding_mode="reflection", align_corners=False)
    targets, foreground = _move_labels(targets, foreground, grid)
    return _intensities(moved, draws, channels), targets, foreground


def _move_labels(
    targets: Tensor | None, foreground: Tensor | None, grid: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Both to the nearest voxel in one resampling (12 ms a 3D crop): as 2 * target + foreground."""
    if targets is None and foreground is None:
        return None, None
    code = torch.zeros_like(grid[:, None, ..., 0])
    for labels, weight in ((targets, 2), (foreground, 1)):
        if labels is not None:
            code.add_(labels, alpha=weight)
    moved = F.grid_sample(code, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    code = moved.long()
    return None if targets is None else code // 2, None if foreground is None else code % 2 == 1


def _affine(draws: Draws, shape: torch.Size, spacing_mm: Tensor | None, mirror: bool, moves: Moves) -> Tensor:
    """(B, n, n + 1) maps in `grid_sample` coordinates ([-1, 1], x first); rotations are made in mm."""
    n, uniform = len(shape), draws.uniform(10)
    batch = len(uniform)
    extent = torch.tensor(shape, dtype=torch.float32).expand(batch, n)
    spacing = torch.ones(batch, n) if spacing_mm is None else spacing_mm.cpu().float()
    anisotropic = spacing.amax(1) / spacing.amin(1) >= ANISOTROPIC

    angles = torch.deg2rad(moves.rotation_degrees * (2 * uniform[:, :3] - 1))
    turn = _rotation(n, angles[:, 0], n - 2, n - 1)
    if n == 3:
        tilts = angles[:, 1:] * (~anisotropic)[:, None]
        turn = turn @ _rotation(n, tilts[:, 0], 0, 1) @ _rotation(n, tilts[:, 1], 0, 2)
    low, high = torch.tensor(moves.scale).log()
    scale = torch.exp(low + (high - low) * uniform[:, 3])
    stretch = torch.ones(batch, n)
    if mirror:
        stretch[:, LEFT_RIGHT_AXIS] = 1 - 2 * (uniform[:, 4] < FLIP_CHANCE).float()

    half = extent * spacing / 2
    linear = turn / scale[:, None, None] * stretch[:, None, :] * half[:, None, :] / half[:, :, None]
    reach = 2 * moves.shift if moves.shift is not None else (1 - 1 / scale)[:, None]
    shift = reach * (2 * uniform[:, 5 : 5 + n] - 1)
    # grid_sample counts axes from the last: both sides of the matrix are turned round.
    return torch.cat([linear.flip(1, 2), shift.flip(1)[:, :, None]], dim=2)


def _rotation(n: int, angle: Tensor, first: int, second: int) -> Tensor:
    """(B, n, n) rotation by (B,) radians in the plane of two axes."""
    matrix = torch.eye(n).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, first, second], matrix[:, second, first] = -angle.sin(), angle.sin()
    return matrix


def _intensities(crops: Tensor, draws: Draws, channels: int) -> Tensor:
    """Smoothing, gamma, contrast, brightness and noise, each on about half of the crops; a channel by its own range."""
    n = crops.ndim - 2
    uniform = draws.uniform(10).to(crops.device)
    chosen = (uniform[:, 5:] < CHANCE).to(crops.dtype)

    def drawn(at: int, low: float, high: float, neutral: float) -> Tensor:
        value = neutral + chosen[:, at] * (low + (high - low) * uniform[:, at] - neutral)
        return value.view(-1, *[1] * (n + 1))

    def of_channels(figure: Tensor) -> Tensor:
        return figure.repeat_interleave(crops.shape[1] // channels, 1).view(*crops.shape[:2], *[1] * n)

    pool = F.avg_pool2d if n == 2 else F.avg_pool3d
    crops = torch.lerp(crops, pool(crops, 3, 1, 1, count_include_pad=False), drawn(0, *SMOOTHING, 0.0))
    each = crops.unflatten(1, (channels, -1)).flatten(2)
    low, high = (of_channels(extreme) for extreme in each.aminmax(dim=2))
    std, mean = (of_channels(figure) for figure in torch.std_mean(each, dim=2))
    span = (high - low).clamp(min=1e-6)
    crops = crops.sub_(low).div_(span).pow_(drawn(1, *GAMMA, 1.0)).mul_(span).add_(low)
    contrast, brightness = drawn(2, *CONTRAST, 1.0), drawn(3, -BRIGHTNESS, BRIGHTNESS, 0.0)
    crops = crops.mul_(contrast).add_(mean * (1 - contrast) + std * brightness)
    noise = draws.normal(*crops.shape[1:]).to(crops)
    return crops.add_(noise.mul_(std * drawn(4, 0.0, NOISE, 0.0)))
