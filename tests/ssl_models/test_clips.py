"""Clips: where past ends, the measure of change, and a rollout that hears the ego-motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_models.clips import Rollout, change, frame_change, past_frames


@pytest.mark.parametrize(
    ("frames", "stride", "future_slots", "expected"),
    [(4, 2, None, 2), (6, 2, None, 2), (16, 2, None, 8), (5, 1, None, 2), (8, 4, None, 4), (6, 2, 1, 4), (4, 1, 1, 3)],
)
def test_past_frames__whole_slots(frames: int, stride: int, future_slots: int | None, expected: int) -> None:
    assert past_frames(frames, stride, future_slots=future_slots) == expected


@pytest.mark.parametrize(("frames", "stride"), [(5, 2), (2, 2), (3, 1), (1, 1)])
def test_past_frames__refused(frames: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"a clip of {frames} frames cannot be cut"):
        past_frames(frames, stride)


def test_change__equals_numpy_and_knows_no_units() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(5, 3, (2, 3, 2, 4, 6, 6)).astype(np.float32)
    expected = [abs(a - b).mean() / np.sqrt((a.var() + b.var()) / 2) for a, b in zip(one, other, strict=True)]
    got = change(torch.from_numpy(one), torch.from_numpy(other))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    torch.testing.assert_close(change(7 * torch.from_numpy(one) + 1, 7 * torch.from_numpy(other) + 1), got)
    assert torch.equal(change(got.view(3, 1, 1), got.view(3, 1, 1)), torch.zeros(3))


def test_frame_change__still_and_moving() -> None:
    frame = torch.randn(2, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    still = frame.expand(-1, -1, 4, -1, -1)
    moving = torch.cat([frame.roll(step, -1) for step in range(4)], 2)
    assert frame_change(still).max() < 1e-6
    assert frame_change(moving).min() > 0.5


def test_rollout__each_step_is_the_same_and_hears_its_own_action() -> None:
    torch.manual_seed(0)
    rollout = Rollout(8, actions=2)
    state, actions = torch.randn(3, 8, 4, 4), torch.randn(3, 3, 2)
    three = rollout(state, 3, actions)
    assert three.shape == (3, 8, 3, 4, 4)
    one = rollout(state, 1, actions[:, :1])
    torch.testing.assert_close(three[:, :, :1], one)
    torch.testing.assert_close(rollout(one[:, :, 0], 2, actions[:, 1:]), three[:, :, 1:])
    later = rollout(state, 3, torch.cat([actions[:, :2], -actions[:, 2:]], 1))
    torch.testing.assert_close(later[:, :, :2], three[:, :, :2])
    assert (later[:, :, 2] - three[:, :, 2]).abs().max() > 1e-3
    assert torch.isfinite(rollout(state, 2)).all()


def test_rollout__an_action_that_is_not_known_adds_nothing() -> None:
    torch.manual_seed(0)
    rollout = Rollout(8, actions=2)
    state, actions = torch.randn(2, 8, 4, 4), torch.randn(2, 1, 2)
    actions[1, 0, 0] = torch.nan
    found = rollout(state, 1, actions)
    torch.testing.assert_close(found[1:], rollout(state[1:], 1))
    torch.testing.assert_close(found[:1], rollout(state[:1], 1, actions[:1]))
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in rollout.parameters())
