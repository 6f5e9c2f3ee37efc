"""How defects look: painted into crops for an objective, and into generated textures for the demo and the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

PIECES_PER_BATCH = 3
SIDE = 96
"""Of a generated photograph, in pixels."""


def paint_defects(
    crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, sample_seed: Tensor
) -> tuple[Tensor, Tensor]:
    """Crops (B, C, H, W) with one or two defects each, and where they are: (B, 1, H, W) int64 in {0, 1}."""
    painted, labels = crops.clone(), []
    for crop, seed in zip(painted, sample_seed.tolist(), strict=True):
        rng = np.random.default_rng([seed, 77])
        change = np.sum([defect(rng, tuple(crop.shape[1:])) for _ in range(rng.integers(1, 3))], axis=0)
        crop += torch.from_numpy(3.0 * change).to(crop)
        labels.append(torch.from_numpy(np.abs(change) > 0.1))
    return painted, torch.stack(labels)[:, None].to(crops.device, torch.int64)


def defect(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float64 change in brightness, about -1..1, of a scratch, a group of pits, or a stain."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    row, column = rng.uniform(0.2, 0.8, 2) * shape
    kind, sign = rng.integers(3), rng.choice([-1.0, 1.0])
    if kind == 0:  # scratch: near a line, within its length
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.15, 0.4) * min(shape)
        along = (rows - row) * np.sin(angle) + (columns - column) * np.cos(angle)
        across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
        return sign * np.exp(-((across / 1.2) ** 2)) * (np.abs(along) < length)
    if kind == 1:  # pits: a few dark points close together
        points = np.zeros(shape)
        for y, x in rng.normal((row, column), 5.0, (rng.integers(2, 6), 2)):
            points[int(np.clip(y, 0, shape[0] - 1)), int(np.clip(x, 0, shape[1] - 1))] = 1
        spread = ndimage.gaussian_filter(points, 1.6)
        return -spread / spread.max()
    radii = rng.uniform(0.05, 0.14, 2) * min(shape)  # stain: a soft, uneven patch
    distance = ((rows - row) / radii[0]) ** 2 + ((columns - column) / radii[1]) ** 2
    return sign * 0.7 * np.exp(-(distance**2)) * (0.8 + 0.2 * rng.random(shape))


def texture(kind: int, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) float64, mean 0, deviation 1: brushed metal (0), woven fabric (1) or leather (2)."""
    noise, (rows, columns) = rng.normal(size=shape), np.mgrid[: shape[0], : shape[1]]
    if kind == 0:
        made = ndimage.gaussian_filter(noise, (0.4, 12))
    elif kind == 1:
        period = rng.uniform(5, 7)
        made = np.sin(2 * np.pi * rows / period) * np.sin(2 * np.pi * columns / period) + 0.4 * noise
    else:
        made = np.abs(ndimage.gaussian_filter(noise, 2.0)) + 0.02 * noise
    return (made - made.mean()) / made.std()


def generate(folder: Path, subjects: int, seed: int) -> None:
    """An archive in the domain's raw format: batches of three pieces of one material, two of three with defects."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.yaml").write_text("namespace: generated-surfaces\nlicence: generated, CC0\n")
    for index in range(subjects):
        rng = np.random.default_rng([seed, index])
        batch = index // PIECES_PER_BATCH
        change = np.zeros((SIDE, SIDE))
        if index % PIECES_PER_BATCH:
            change = np.sum([defect(rng, (SIDE, SIDE)) for _ in range(rng.integers(1, 4))], axis=0)
        pixels = 120 + 12 * texture(batch % 3, rng, (SIDE, SIDE)) + 60 * change
        piece = folder / f"batch-{batch:02d}" / f"piece-{index:03d}.png"
        piece.parent.mkdir(exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(piece)
        mask = (np.abs(change) > 0.25).astype(np.uint8) * 255
        Image.fromarray(mask).save(piece.with_name(f"{piece.stem}.mask.png"))
