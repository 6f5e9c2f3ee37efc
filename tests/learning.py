"""Learning tests: generated problems that mean colour or brightness cannot solve, and what a probe gains there."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ssl_models import encoders, objectives, probes
from ssl_models.optim import adamw, parameter_groups, set_learning_rate, warmup_cosine
from ssl_models.protocols import Batch, Geometry, pooled

SIDE, FRAMES = 32, 6
LONGER = int(os.environ.get("SELFSIGHT_LONGER", "1"))
"""Multiplies the steps and prints the figures: the long form, in `make study-objectives`."""
Source = Callable[[int, int, int], tuple[Batch, Tensor]]
"""number of subjects, seed, V -> batch with V crops of each, and each subject's class (B,)."""

IMAGE = Geometry((SIDE, SIDE), ((1, 1), (2, 2), (2, 2), (2, 2)), (8, 8))
GRATING = Geometry((16, 16), ((1, 1), (2, 2), (2, 2), (2, 2)), (4, 4))
VOLUME = Geometry((16, 16, 16), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), (4, 4, 4))
CLIP = Geometry((FRAMES, SIDE, SIDE), ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2)), (2, 8, 8), time_axis=True)
SMALL_CLIP = Geometry((FRAMES, SIDE // 2, SIDE // 2), ((1, 1, 1), (2, 2, 2)), (2, 4, 4), time_axis=True)
SLIDING = replace(SMALL_CLIP, pooling=(*SMALL_CLIP.pooling, (1, 2, 2)))


def shapes(count: int, seed: int, crops: int = 1, axes: int = 2) -> tuple[Batch, Tensor]:
    """Four shapes of equal area at any place, darker or brighter than a slanting background, with noise.

    The shape stays in all crops of a subject; place, sign, contrast, background and noise are drawn anew.
    """
    g = torch.Generator().manual_seed(seed)
    side = SIDE if axes == 2 else VOLUME.crop_shape[0]
    kinds, total = torch.randint(4, (count,), generator=g), count * crops
    reach = side * 0.22
    at = torch.rand(total, axes, generator=g) * (side - 2 * reach - 2) + reach + 1
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) + 0.5] * axes, indexing="ij"))
    offset = (grid - at.view(total, axes, *[1] * axes)) / reach
    inside = _inside(offset, kinds.repeat_interleave(crops))
    sign = torch.randint(2, (total,), generator=g) * 2.0 - 1
    contrast = sign * (0.8 + 0.8 * torch.rand(total, generator=g))
    slant = torch.einsum("bi,i...->b...", torch.randn(total, axes, generator=g), grid / side - 0.5)
    image = slant + contrast.view(-1, *[1] * axes) * inside
    image = image + 0.25 * torch.randn(image.shape, generator=g)
    image = image - image.flatten(1).mean(1).view(-1, *[1] * axes)
    return _batch(image.unsqueeze(1).unflatten(0, (count, crops)), seed), kinds


def _inside(offset: Tensor, kinds: Tensor) -> Tensor:
    """(N, axes, *S) offsets in units of reach, (N,) kinds -> (N, *S) bool: ball, cube, cross, ring of equal size."""
    radius, along = offset.square().sum(1).sqrt(), offset.abs()
    axes = offset.shape[1]
    ball = radius < 0.8
    cube = along.amax(1) < 0.8 * (math.pi ** (axes / 2) / math.gamma(axes / 2 + 1)) ** (1 / axes) / 2
    thin = along.sort(1).values[:, -2] if axes > 1 else along[:, 0]
    cross = (thin < 0.32) & (along.amax(1) < 1.0)
    ring = (radius < 1.0) & (radius > (1.0 - 0.8**axes) ** (1 / axes))
    return torch.stack([ball, cube, cross, ring], 1)[torch.arange(len(kinds)), kinds].float()


def solids(count: int, seed: int, crops: int = 1) -> tuple[Batch, Tensor]:
    """`shapes` in three axes."""
    return shapes(count, seed, crops, axes=3)


GLYPHS = torch.tensor(
    [
        [[1, 1, 1], [0, 1, 0], [0, 1, 0]], [[1, 0, 1], [1, 1, 1], [0, 0, 0]],
        [[1, 1, 0], [1, 1, 0], [1, 0, 0]], [[0, 1, 1], [1, 1, 0], [0, 1, 0]],
    ]
)  # fmt: skip
"""Four figures of five cells that look different after every turn."""


def glyphs(count: int, seed: int, crops: int = 1, cell: int = 5) -> tuple[Batch, Tensor]:
    """Four upright figures at any place, drawn like `shapes`: what a turn or a shuffle of tiles disturbs."""
    g = torch.Generator().manual_seed(seed)
    kinds, total, edge = torch.randint(len(GLYPHS), (count,), generator=g), count * crops, 3 * cell
    figure = GLYPHS[kinds.repeat_interleave(crops)].repeat_interleave(cell, 1).repeat_interleave(cell, 2).float()
    image = torch.zeros(total, SIDE, SIDE)
    for n, (y, x) in enumerate(torch.randint(SIDE - edge + 1, (total, 2), generator=g).tolist()):
        image[n, y : y + edge, x : x + edge] = figure[n]
    sign = torch.randint(2, (total, 1, 1), generator=g) * 2.0 - 1
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")) / SIDE - 0.5
    slant = torch.einsum("bi,ihw->bhw", torch.randn(total, 2, generator=g), grid)
    image = slant + sign * (0.8 + 0.8 * torch.rand(total, 1, 1, generator=g)) * image
    image = image + 0.25 * torch.randn(image.shape, generator=g)
    image = image - image.mean((1, 2), keepdim=True)
    return _batch(image.unsqueeze(1).unflatten(0, (count, crops)), seed), kinds


def stripes(count: int, seed: int, crops: int = 1) -> tuple[Batch, Tensor]:
    """Stripes in one of four directions, of any phase and of wavelengths from 6 to 9 pixels, under stronger noise."""
    g = torch.Generator().manual_seed(seed)
    kinds, total = torch.randint(4, (count,), generator=g), count * crops
    angle = kinds.repeat_interleave(crops) * math.pi / 4
    direction = torch.stack([angle.cos(), angle.sin()], 1) / (6 + 3 * torch.rand(total, 1, generator=g))
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")).float()
    turns = torch.einsum("bi,ihw->bhw", direction, grid) + torch.rand(total, 1, 1, generator=g)
    image = 0.8 * (2 * math.pi * turns).sin() + torch.randn(total, SIDE, SIDE, generator=g)
    image = image - image.mean((1, 2), keepdim=True)
    return _batch(image.unsqueeze(1).unflatten(0, (count, crops)), seed), kinds


def gratings(count: int, seed: int, crops: int = 1) -> tuple[Batch, Tensor]:
    """Stripes of 16 x 16 pixels under a slanting background and noise; the class is a quarter of their directions.

    Direction and width of the stripes stay in all crops of a subject; phase, contrast, background and noise are drawn
    anew. The mean of every crop is zero.
    """
    g, side, total = torch.Generator().manual_seed(seed), GRATING.crop_shape[0], count * crops
    kinds = torch.randint(4, (count,), generator=g)
    angle = (kinds + torch.rand(count, generator=g)) * math.pi / 4
    wave = (0.12 + 0.1 * torch.rand(count, generator=g)) * torch.stack([angle.cos(), angle.sin()])
    grid = torch.stack(torch.meshgrid(*[torch.arange(side) + 0.5] * 2, indexing="ij"))
    along = torch.einsum("ib,ihw->bhw", wave.repeat_interleave(crops, 1), grid)
    stripes = (2 * math.pi * (along + torch.rand(total, 1, 1, generator=g))).sin()
    slant = torch.einsum("bi,ihw->bhw", 2 * torch.randn(total, 2, generator=g), grid / side - 0.5)
    image = (0.5 + 0.5 * torch.rand(total, 1, 1, generator=g)) * stripes + slant
    image = image + 0.25 * torch.randn(image.shape, generator=g)
    image = image - image.mean((1, 2), keepdim=True)
    return _batch(image.unsqueeze(1).unflatten(0, (count, crops)), seed), kinds


def motions(count: int, seed: int, crops: int = 1) -> tuple[Batch, Tensor]:
    """A blob on a textured ground that moves in one of four directions: no single frame tells which.

    Crops of a subject show the same motion at another place, 0.5 s later each; subjects are drives of their own.
    Actions are the blob's velocity in pixels per frame, along x and y.
    """
    g = torch.Generator().manual_seed(seed)
    kinds, total = torch.randint(4, (count,), generator=g), count * crops
    step = torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])[kinds].repeat_interleave(crops, 0)
    speed = 2.0 + torch.rand(total, 1, generator=g)
    start = torch.rand(total, 2, generator=g) * SIDE
    times = torch.arange(FRAMES, dtype=torch.float32)
    place = start.unsqueeze(1) + (step * speed).unsqueeze(1) * times.view(1, -1, 1)
    grid = torch.stack(torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij"))
    away = (grid - place[..., None, None] + SIDE / 2) % SIDE - SIDE / 2  # the ground is a torus: nobody leaves it
    sign = torch.randint(2, (total, 1, 1, 1), generator=g) * 2.0 - 1
    blob = sign * 1.5 * torch.exp(-away.square().sum(2) / (2 * 3.0**2))
    ground = torch.nn.functional.interpolate(torch.randn(total, 1, 8, 8, generator=g), (SIDE, SIDE), mode="bilinear")
    clip = blob + 0.5 * ground + 0.1 * torch.randn(total, FRAMES, SIDE, SIDE, generator=g)
    seconds = (times / 10 + 0.5 * torch.arange(crops).view(-1, 1)).double().expand(count, -1, -1)
    actions = (step * speed).unsqueeze(1).expand(-1, FRAMES, -1).unflatten(0, (count, crops))
    batch = _batch(clip.unsqueeze(1).unflatten(0, (count, crops)), seed, seconds=seconds, actions=actions.flip(-1))
    return batch, kinds


def small_motions(count: int, seed: int, crops: int = 1) -> tuple[Batch, Tensor]:
    """`motions` in frames of half the height and width, a quarter of the work; actions in these pixels."""
    batch, kinds = motions(count, seed, crops)
    assert batch.actions is not None
    halved = torch.nn.functional.avg_pool3d(batch.crops.flatten(0, 2), (1, 2, 2)).unflatten(0, batch.crops.shape[:3])
    return replace(batch, crops=halved, foreground=None, actions=batch.actions / 2), kinds


def slides(count: int, seed: int, crops: int = 1) -> tuple[Batch, Tensor]:
    """A texture that slides as a whole in one of four directions, as a road does below a camera; half frames.

    In half the height and width of `motions`, under much noise. Actions are the velocity in pixels per frame, along x
    and y; the ground is a torus.
    """
    g = torch.Generator().manual_seed(seed)
    side, total = SIDE // 2, count * crops
    kinds = torch.randint(4, (count,), generator=g)
    step = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])[kinds].repeat_interleave(crops, 0)
    step = step * torch.randint(1, 3, (total, 1), generator=g)
    coarse = torch.nn.functional.pad(torch.randn(total, 1, 5, 5, generator=g), [1] * 4, mode="circular")
    ground = torch.nn.functional.interpolate(coarse, (7 * side // 5, 7 * side // 5), mode="bicubic")
    ground = ground[:, 0, 3 : 3 + side, 3 : 3 + side]
    frames = [
        torch.stack([one.roll((t * int(y), t * int(x)), (0, 1)) for one, (y, x) in zip(ground, step, strict=True)])
        for t in range(FRAMES)
    ]
    clip = torch.stack(frames, 1)
    clip = clip + 0.6 * torch.randn(clip.shape, generator=g)
    seconds = (torch.arange(FRAMES) / 10 + 0.5 * torch.arange(crops).view(-1, 1)).double().expand(count, -1, -1)
    actions = step.float().unsqueeze(1).expand(-1, FRAMES, -1).unflatten(0, (count, crops)).flip(-1)
    return _batch(clip.unsqueeze(1).unflatten(0, (count, crops)), seed, seconds=seconds, actions=actions), kinds


def _batch(crops: Tensor, seed: int, **known: Any) -> Batch:
    count = len(crops)
    return Batch(
        crops=crops, sample_seed=torch.arange(count) + 1_000_003 * (seed + 1),
        group_id=tuple(f"g{seed}-{i}" for i in range(count)),
        foreground=torch.ones_like(crops[:, :, :1], dtype=torch.bool), **known,
    )  # fmt: skip


def probe_accuracies(
    objective: str, problem: Source, geometry: Geometry, *, encoder: str = "resunet", steps: int, batch_size: int = 32,
    learning_rate: float = 2e-3, settings: dict[str, Any] | None = None, painter: Any = None, seed: int = 0,
    asked: Callable[[list[Tensor]], Tensor] = pooled,
) -> tuple[float, float]:  # fmt: skip
    """Accuracy of a linear probe on the pooled features of a random encoder, and of the same one after pretraining.

    The probe has 256 labelled subjects and is asked about 256 others; pretraining sees neither.
    """
    torch.manual_seed(seed)
    network = encoders.build(encoder, size="tiny", in_channels=1, geometry=geometry)
    actions = problem(1, 0, 1)[0].actions
    module = objectives.build(
        objective, network, settings={objective: settings or {}}, painter=painter,
        actions=0 if actions is None else actions.shape[-1],
    )  # fmt: skip
    before = probe_accuracy(network, problem, asked)
    steps *= LONGER
    optimizer = adamw(parameter_groups(module, weight_decay=0.01, layer_decay=1.0), learning_rate=learning_rate)
    module.train()
    for step in range(steps):
        set_learning_rate(optimizer, learning_rate * warmup_cosine(step, steps=steps, warmup_steps=steps // 10))
        batch, _ = problem(batch_size, 100 + step, objectives.needs(objective).crops)
        module(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        getattr(module, "after_step", lambda: None)()
    after = probe_accuracy(network, problem, asked)
    if LONGER > 1:
        print(f"\n| {objective} | {problem.__name__} | {steps} | {before:.2f} | {after:.2f} |")
    return before, after


def probe_accuracy(network: Any, problem: Source, asked: Callable[[list[Tensor]], Tensor] = pooled) -> float:
    """Accuracy in [0, 1] of a linear probe on a frozen network."""
    network.eval()
    (known, labels), (other, true) = problem(256, 1, 1), problem(256, 2, 1)
    with torch.no_grad():
        features, wanted = (asked(network(batch.crops[:, 0])) for batch in (known, other))
    network.train()
    return (probes.linear(features, labels, wanted).argmax(1) == true).float().mean().item()
