"""Temporal contrast: which pairs attract and repel, the loss by hand, standstills, and that it learns motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import SMALL_CLIP, probe_accuracies, small_motions

from ssl_models import encoders, objectives
from ssl_models.objectives.temporal_contrast import TemporalContrast, info_nce, pairs
from ssl_models.protocols import Batch, Geometry

GEOMETRY = Geometry((4, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (2, 8, 8), time_axis=True)


def contrast(**settings: float) -> TemporalContrast:
    torch.manual_seed(0)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=GEOMETRY)
    built = objectives.build("temporal_contrast", encoder, settings={"temporal_contrast": settings}, painter=None)
    assert isinstance(built, TemporalContrast)
    return built


def batch_of(groups: tuple[str, ...], starts: list[list[float]], seed: int = 0) -> Batch:
    """Clips of noise; a row of `starts` in seconds for each subject."""
    crops = torch.randn(len(groups), 2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    seconds = torch.tensor(starts).double().unsqueeze(2) + torch.arange(4).double() / 10
    return Batch(crops=crops, sample_seed=torch.arange(len(groups)), group_id=groups, seconds=seconds)


def test_pairs__equal_a_slow_version() -> None:
    draw = np.random.default_rng(0)
    group, seconds = draw.integers(0, 3, 24), draw.uniform(0, 30, 24)
    alike = draw.random((24, 24)) < 0.1
    alike = alike | alike.T
    positive, negative = pairs(*map(torch.from_numpy, (group, seconds, alike)), 4.0, 12.0)
    seen = set()
    for i in range(24):
        for j in range(24):
            gap = abs(seconds[i] - seconds[j])
            if i == j or alike[i, j]:
                kind = "neither"
            elif group[i] != group[j] or gap > 12:
                kind = "repels"
            else:
                kind = "attracts" if gap <= 4 else "neither"
            assert (bool(positive[i, j]), bool(negative[i, j])) == (kind == "attracts", kind == "repels")
            seen.add(kind)
    assert len(seen) == 3


def test_info_nce__equals_a_slow_version() -> None:
    draw = np.random.default_rng(1)
    z = draw.normal(size=(10, 4))
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    group, seconds = draw.integers(0, 3, 10), draw.uniform(0, 9, 10)
    none = torch.zeros(10, 10, dtype=torch.bool)
    positive, negative = pairs(torch.from_numpy(group), torch.from_numpy(seconds), none, 2.0, 5.0)
    anchors = []
    for i in range(10):
        against = sum(np.exp(z[i] @ z[j] / 0.1) for j in range(10) if negative[i, j])
        each = [
            -np.log(np.exp(z[i] @ z[j] / 0.1) / (np.exp(z[i] @ z[j] / 0.1) + against))
            for j in range(10) if positive[i, j]
        ]  # fmt: skip
        if each and against:
            anchors.append(np.mean(each))
    assert 0 < len(anchors) < 10
    got = info_nce(torch.from_numpy(z), positive, negative, 0.1)
    assert got.item() == pytest.approx(np.mean(anchors), rel=1e-6)


def test_forward__between_near_and_far_is_neither() -> None:
    parts = contrast()(batch_of(("a", "b"), [[0.0, 1.0], [0.0, 5.0]])).parts
    # The first two attract, the last two are neither; each repels the two of the other drive.
    assert parts["positives"].item() == pytest.approx(0.5) and parts["negatives"].item() == pytest.approx(2)
    parts = contrast()(batch_of(("a", "a"), [[0.0, 1.0], [30.0, 31.0]])).parts
    assert parts["positives"].item() == pytest.approx(1) and parts["negatives"].item() == pytest.approx(2)


@pytest.mark.parametrize("groups", [("a",), ("a", "a")])
def test_forward__nothing_to_contrast_is_zero_with_a_gradient(groups: tuple[str, ...]) -> None:
    objective = contrast()
    losses = objective(batch_of(groups, [[0.0, 1.0]] * len(groups)))
    assert losses.total == 0 and losses.parts["anchors"] == 0
    losses.total.backward()
    grads = [p.grad for p in objective.parameters() if p.grad is not None]
    assert grads and all(grad.abs().max() == 0 for grad in grads)


def test_forward__a_standstill_neither_attracts_nor_repels() -> None:
    batch = batch_of(("a", "b"), [[0.0, 1.0], [0.0, 60.0]])
    noise = 0.01 * torch.randn(batch.crops[:, :1].shape, generator=torch.Generator().manual_seed(5))
    still = replace(batch, crops=torch.cat([batch.crops[:, :1], batch.crops[:, :1] + noise], 1))
    parts = contrast()(still).parts
    assert parts["positives"] == 0 and parts["negatives"] == 2  # only the other drive
    parts = contrast(still_below=0.001)(still).parts
    assert parts["positives"] == 0.5 and parts["negatives"] == 2.5


def test_init__far_before_near() -> None:
    with pytest.raises(ValueError, match="far_seconds is 1"):
        contrast(max_gap_seconds=2, far_seconds=1)


def test_temporal_contrast__learns_motion() -> None:
    before, after = probe_accuracies("temporal_contrast", small_motions, SMALL_CLIP, steps=40)
    assert after > before + 0.1, (before, after)
