"""Clips: which frames are past and which future, how much changes, and a state that is rolled on in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def past_frames(frames: int, time_stride: int, *, future_slots: int | None = None) -> int:
    """How many of a clip's frames are its past: the first half, or all but the last `future_slots` slots.

    A slot is `time_stride` frames, one step of the encoder's coarsest map; past and future are whole slots, and where
    their number is odd the future has one more.

    Raises:
        ValueError: if the frames are not whole slots, or fewer than two frames of past or one slot of future are left.
    """
    slots, rest = divmod(frames, time_stride)
    past = slots // 2 if future_slots is None else slots - future_slots
    if rest or past < 1 or past * time_stride < 2:
        raise ValueError(
            f"a clip of {frames} frames cannot be cut into past and future: it must be a multiple of {time_stride} "
            "frames (the encoder's coarsest step in time) and leave at least two frames of past"
        )
    return past * time_stride


def change(one: Tensor, other: Tensor) -> Tensor:
    """(B,) mean absolute difference of two crops (B, C, *S) in units of their standard deviation.

    About 1.1 for two unrelated crops of noise, small where nothing moves. Crops without any contrast differ by nothing
    or by very much.
    """
    one, other = one.float().flatten(1), other.float().flatten(1)
    deviation = ((one.var(1, correction=0) + other.var(1, correction=0)) / 2).sqrt()
    return (one - other).abs().mean(1) / deviation.clamp_min(1e-6)


def frame_change(clips: Tensor) -> Tensor:
    """(B,) `change` from frame to frame of clips (B, C, T, H, W)."""
    return change(clips[:, :, 1:], clips[:, :, :-1])


class Rollout(nn.Module):
    """A map of features carried on in time, one slot after the other, each from the one before and the ego-motion.

    Every step is the same small residual network; two 3x3 convolutions let what is seen move by two cells a step.
    """

    def __init__(self, channels: int, *, actions: int = 0) -> None:
        """A step for maps of `channels`; `actions` is A of the ego-motion, 0 for none."""
        super().__init__()
        self.enter = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.act = nn.Linear(actions, 2 * channels) if actions else None
        self.inner = nn.Sequential(nn.GELU(), nn.Conv2d(2 * channels, 2 * channels, 3, padding=1), nn.GELU())
        self.leave = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, state: Tensor, steps: int, actions: Tensor | None = None) -> Tensor:
        """(B, E, h, w) -> (B, E, steps, h, w): the next `steps` maps.

        Args:
            state: the last known map.
            steps: how far to go.
            actions: (B, steps, A) ego-motion during each step; None or nan counts as unknown and adds nothing.
        """
        states = []
        for step in range(steps):
            hidden = self.enter(state)
            if self.act is not None and actions is not None:
                # Speeds in m/s and yaw rates differ a hundredfold: the logarithm brings them closer.
                known = actions[:, step].isfinite().all(1)
                moved = torch.where(known[:, None], actions[:, step], 0.0)
                told = self.act(moved.sign() * moved.abs().log1p()) * known[:, None]
                hidden = hidden + told[..., None, None]
            state = state + self.leave(self.inner(hidden))
            states.append(state)
        return torch.stack(states, dim=2)
