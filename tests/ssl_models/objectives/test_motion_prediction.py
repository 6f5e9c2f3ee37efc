"""Motion prediction: block matching on known shifts, what is not trusted, the loss by hand, and learning motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import SLIDING, probe_accuracies, small_motions
from torch.nn import functional as F

from ssl_models import encoders, objectives
from ssl_models.objectives.motion_prediction import MotionPrediction, balanced, block_motion


def texture(seed: int = 0, side: int = 48) -> torch.Tensor:
    """(1, 2, side, side) smooth random texture."""
    coarse = torch.randn(1, 2, side // 3, side // 3, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (side, side), mode="bicubic")


def test_block_motion__whole_pixels_are_exact() -> None:
    frame = texture()
    for down, right in [(0, 0), (3, -2), (-4, 1)]:
        motion, trusted = block_motion(frame, frame.roll((down, right), (2, 3)), (8, 8), 5)
        inner = motion[0, :, 1:-1, 1:-1]
        assert motion.shape == (1, 2, 6, 6) and trusted[0, 0, 1:-1, 1:-1].all()
        assert (inner - torch.tensor([down, right]).view(2, 1, 1)).abs().max() < 0.3
        assert (inner.mean((1, 2)) - torch.tensor([down, right])).abs().max() < 0.1


def test_block_motion__fractions_to_a_fifth_of_a_pixel() -> None:
    frame = texture()
    grid = F.affine_grid(
        torch.tensor([[[1.0, 0, -2 * 1.4 / 48], [0, 1.0, 2 * 2.3 / 48]]]), [1, 2, 48, 48], align_corners=False
    )
    after = F.grid_sample(frame, grid, mode="bicubic", padding_mode="border", align_corners=False)
    motion, trusted = block_motion(frame, after, (8, 8), 5)
    error = (motion - torch.tensor([-2.3, 1.4]).view(1, 2, 1, 1))[0, :, 1:-1, 1:-1]
    assert trusted[0, 0, 1:-1, 1:-1].all()
    assert error.abs().mean() < 0.2


def test_block_motion__equals_a_slow_search() -> None:
    draw = np.random.default_rng(0)
    frame, after = draw.normal(size=(2, 12, 16)).astype(np.float32)
    motion, _ = block_motion(torch.from_numpy(frame)[None, None], torch.from_numpy(after)[None, None], (4, 4), 2)
    for row in range(3):
        for column in range(4):
            costs = {}
            for y in range(-2, 3):
                for x in range(-2, 3):
                    top, left = 4 * row + y, 4 * column + x
                    if 0 <= top <= 8 and 0 <= left <= 12:
                        block = frame[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                        costs[y, x] = ((after[top : top + 4, left : left + 4] - block) ** 2).mean()
            y, x = min(costs, key=costs.__getitem__)
            for axis, (low, high) in enumerate([((y - 1, x), (y + 1, x)), ((y, x - 1), (y, x + 1))]):
                expected = float((y, x)[axis])
                if low in costs and high in costs:
                    bend = costs[low] + costs[high] - 2 * costs[y, x]
                    expected += np.clip((costs[low] - costs[high]) / (2 * bend), -0.5, 0.5)
                assert motion[0, axis, row, column].item() == pytest.approx(expected, abs=1e-3)


def test_block_motion__noise_flat_and_far_are_not_trusted() -> None:
    draw = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 1, 1, 48, 48, generator=draw)
    assert not block_motion(one[None, 0], other[None, 0], (8, 8), 4)[1].any()
    flat = torch.ones(1, 1, 48, 48)
    motion, trusted = block_motion(flat, flat, (8, 8), 4)
    assert not trusted.any() and torch.isfinite(motion).all()
    far = texture()
    assert block_motion(far, far.roll(9, 3), (8, 8), 4)[1].float().mean() < 0.3


def test_balanced__by_hand() -> None:
    moving = torch.tensor([True, False, False, False, True]).view(1, 1, 1, 5)
    trusted = torch.tensor([True, True, True, False, True]).view(1, 1, 1, 5)
    assert balanced(moving, trusted).flatten().tolist() == [0.25, 0.25, 0.25, 0, 0.25]
    assert balanced(moving & False, trusted).sum().item() == pytest.approx(1)
    assert balanced(moving, trusted & False).sum() == 0


def predictor() -> MotionPrediction:
    torch.manual_seed(0)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=SLIDING)
    built = objectives.build("motion_prediction", encoder, settings={}, painter=None)
    assert isinstance(built, MotionPrediction)
    return built


def test_forward__equals_numpy() -> None:
    objective, (batch, _) = predictor(), small_motions(3, 0)
    clips = batch.crops[:, 0]
    flow, trusted = block_motion(clips[:, :, 3], clips[:, :, 4], (4, 4), 6)
    with torch.no_grad():
        told = objective.head(objective.encoder(clips[:, :, :4])[-1][:, :, -1]).double().numpy()
    errors: dict[bool, list[float]] = {True: [], False: []}
    for b, y, x in trusted[:, 0].nonzero().tolist():
        away = np.abs(told[b, :, y, x] - flow[b, :, y, x].numpy())
        error = np.where(away < 0.5, away**2, away - 0.25).sum()
        errors[bool(np.hypot(*flow[b, :, y, x].numpy()) > 0.5)].append(error)
    assert errors[True] and errors[False]
    expected = (np.mean(errors[True]) + np.mean(errors[False])) / 2
    assert objective(batch).total.item() == pytest.approx(expected, rel=1e-4)


def test_forward__the_frame_it_leads_to_is_not_seen() -> None:
    objective, (batch, _) = predictor(), small_motions(2, 0)
    other = batch.crops.clone()
    other[:, :, :, 4:] = torch.randn(other[:, :, :, 4:].shape)
    told = objective.examples(batch)["predicted"]
    assert torch.equal(objective.examples(replace(batch, crops=other))["predicted"], told)


def test_motion_prediction__learns_motion() -> None:
    before, after = probe_accuracies("motion_prediction", small_motions, SLIDING, steps=70)
    assert after > before + 0.1, (before, after)
