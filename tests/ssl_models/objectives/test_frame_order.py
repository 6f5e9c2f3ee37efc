"""Frame order: orders and their inverse, clips without motion, the loss by hand, and that it learns motion."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from learning import SMALL_CLIP, probe_accuracies, small_motions

from ssl_models import encoders, objectives
from ssl_models.objectives.frame_order import FrameOrder, orders, rearranged, segments_of, shuffle
from ssl_models.protocols import pooled
from ssl_models.tokens import crop_seeds


def teller() -> FrameOrder:
    torch.manual_seed(0)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=SMALL_CLIP)
    built = objectives.build("frame_order", encoder, settings={}, painter=None)
    assert isinstance(built, FrameOrder)
    return built


@pytest.mark.parametrize(("frames", "expected"), [(4, 2), (6, 3), (8, 4), (9, 3), (10, 2), (16, 4)])
def test_segments_of__most_that_show_their_direction(frames: int, expected: int) -> None:
    assert segments_of(frames) == expected


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 7])
def test_segments_of__refused(frames: int) -> None:
    with pytest.raises(ValueError, match=f"{frames} frames cannot be cut"):
        segments_of(frames)


def test_rearranged__by_hand_and_back() -> None:
    clip = torch.arange(6).view(1, 1, 6, 1, 1).float()
    assert rearranged(clip, torch.tensor([[2, 0, 1]])).flatten().tolist() == [4, 5, 0, 1, 2, 3]
    table = orders(3, clip.device)
    assert [tuple(row) for row in table.tolist()] == list(permutations(range(3)))
    clips = torch.randn(6, 2, 6, 3, 3)
    assert torch.equal(rearranged(rearranged(clips, table), table.argsort(1)), clips)


def test_shuffle__every_order_about_as_often() -> None:
    clips = torch.arange(8).view(1, 1, 8, 1, 1).float().expand(4800, -1, -1, -1, -1)
    shuffled, order = shuffle(clips, torch.arange(4800))
    counts = order.bincount(minlength=24)
    assert counts.min() > 140 and counts.max() < 270
    table = orders(4, clips.device)
    assert torch.equal(shuffled[:, 0, ::2, 0, 0].long() // 2, table[order])


def test_forward__equals_numpy_on_the_clips_that_move() -> None:
    objective, (batch, _) = teller(), small_motions(6, 0)
    still = batch.crops.clone()
    still[:2] = still[:2, :, :, :1]
    batch = replace(batch, crops=still)
    losses = objective(batch)
    shuffled, order = shuffle(batch.crops[:, 0], crop_seeds(batch.sample_seed, 1))
    with torch.no_grad():
        logits = objective.head(pooled(objective.encoder(shuffled)))[:, :6].double().numpy()
    errors = [np.log(np.exp(row).sum()) - row[k] for row, k in zip(logits, order.tolist(), strict=True)]
    assert losses.parts["moving"].item() == pytest.approx(4 / 6)
    assert losses.total.item() == pytest.approx(np.mean(errors[2:]), rel=1e-4)
    right = [row.argmax() == k for row, k in zip(logits, order.tolist(), strict=True)]
    assert losses.parts["accuracy"].item() == pytest.approx(np.mean(right[2:]))


def test_forward__nothing_moves_is_zero() -> None:
    objective, (batch, _) = teller(), small_motions(3, 0)
    losses = objective(replace(batch, crops=batch.crops[:, :, :, :1].expand_as(batch.crops)))
    losses.total.backward()
    assert losses.total == 0 and losses.parts["moving"] == 0


def test_frame_order__learns_motion() -> None:
    before, after = probe_accuracies("frame_order", small_motions, SMALL_CLIP, steps=100)
    assert after > before + 0.1, (before, after)
