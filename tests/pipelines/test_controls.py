"""Negative controls in miniature: what carries no information teaches nothing, on a problem that the real task solves.

Every crop shows two striped patches of equal brightness; the one with upright stripes is to be found. A network that
only tells patches from background, or learns where they lie, stays below a Dice of 0.7.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from learning import GRATING, gratings
from torch import Tensor

from pipelines.pretrain import PainterOfNoise
from ssl_models import encoders, objectives, probes
from ssl_models.optim import adamw, parameter_groups
from ssl_models.protocols import Batch, Geometry, pooled

GEOMETRY, SIDE, PATCH, STEPS = Geometry((32, 32), ((1, 1), (2, 2), (2, 2)), (8, 8)), 32, 10, 60
STRIPES = 1.5 * np.sign(np.sin(np.arange(PATCH) * np.pi / 2 + 0.7)).astype(np.float32)


def patches(count: int, seed: int, *, clean: bool = False) -> tuple[Batch, Tensor]:
    """Noise with both patches, one on either half; proposals mark the upright one. And the truth (B, 1, H, W).

    A clean archive has no upright ones: a painter pastes them, and real ones would be taught as background.
    """
    draw = np.random.default_rng(seed)
    crops = draw.normal(0, 0.5, (count, 1, 1, SIDE, SIDE)).astype(np.float32)
    truth = np.zeros((count, 1, SIDE, SIDE), dtype=np.int64)
    for i in range(count):
        left = draw.integers(2)
        for half, stripes in ((left, STRIPES[None]), (1 - left, STRIPES[:, None])):
            y, x = draw.integers(SIDE - PATCH), draw.integers(SIDE // 2 - PATCH) + half * SIDE // 2
            place = slice(y, y + PATCH), slice(x, x + PATCH)
            if clean and half == left:
                continue
            crops[(i, 0, 0, *place)] += stripes
            truth[(i, 0, *place)] = half == left
    batch = Batch(
        crops=torch.from_numpy(crops), sample_seed=torch.arange(count) + 1000 * seed,
        group_id=tuple(map(str, range(count))), proposals=torch.from_numpy(truth)[:, None],
    )  # fmt: skip
    return batch, torch.from_numpy(truth)


def paint(crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, seed: Tensor) -> tuple[Tensor, Tensor]:
    """An upright patch somewhere, added to whatever is there."""
    crops, label = crops.clone(), torch.zeros_like(crops, dtype=torch.int64)
    for i, one in enumerate(seed.tolist()):
        y, x = np.random.default_rng(one).integers(SIDE - PATCH, size=2)
        crops[i, 0, y : y + PATCH, x : x + PATCH] += torch.from_numpy(STRIPES)
        label[i, 0, y : y + PATCH, x : x + PATCH] = 1
    return crops, label


def dice_without_labels(objective: str, *, painter: Any = None, shuffled: bool = False) -> float:
    """Of the upright patches of new crops, found by the decoder that a short pretraining gives."""
    torch.manual_seed(0)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=GEOMETRY)
    module: Any = objectives.build(objective, encoder, settings={}, painter=painter)
    optimizer = adamw(parameter_groups(module, weight_decay=0.01), learning_rate=2e-3)
    for step in range(STEPS):
        batch, _ = patches(16, 100 + step, clean=painter is not None)
        if shuffled and batch.proposals is not None:
            batch = replace(batch, proposals=batch.proposals.roll(1, 0))
        module(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    batch, truth = patches(64, 5)
    with torch.no_grad():
        found = module.decoder(module.encoder(batch.crops[:, 0])).argmax(1, keepdim=True)
    return float(2 * (found * truth).sum() / (found.sum() + truth.sum()))


def test_proposals__of_another_subject_teach_nothing() -> None:
    assert dice_without_labels("proposals") > 0.9
    assert dice_without_labels("proposals", shuffled=True) < 0.3


def test_anomaly_synthesis__a_painter_of_noise_teaches_nothing() -> None:
    assert dice_without_labels("anomaly_synthesis", painter=paint) > 0.5
    assert dice_without_labels("anomaly_synthesis", painter=PainterOfNoise(paint)) < 0.3


def test_probe__shuffled_labels_are_not_learned() -> None:
    torch.manual_seed(0)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=GRATING).eval()
    (known, labels), (asked, true) = gratings(256, 1), gratings(256, 2)
    with torch.no_grad():
        features, wanted = (pooled(encoder(batch.crops[:, 0])) for batch in (known, asked))

    def accuracy(taught: Tensor) -> float:
        return float((probes.linear(features, taught, wanted).argmax(1) == true).float().mean())

    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
    assert accuracy(labels) > 0.4
    assert accuracy(labels[order]) < 0.34  # chance is 0.25, two standard deviations 0.054
