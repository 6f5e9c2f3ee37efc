"""Which frames of a recording make a clip: by their timestamps, never by their number."""

from __future__ import annotations

import numpy as np

MOST_STEPS = 0.75
"""Between a wanted time and its frame, in steps of the clip: two thirds of its rate are enough."""


def span_seconds(frames: int, frames_per_second: float) -> float:
    """From the first to the last frame of a clip."""
    return (frames - 1) / frames_per_second


def nearest(pts_seconds: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Index of the frame nearest in time to each of `times` (any shape); of two equally near ones the earlier.

    Args:
        pts_seconds: (T,) float64, rising.
        times: seconds on the same clock.
    """
    after = np.searchsorted(pts_seconds, times).clip(1, max(1, len(pts_seconds) - 1))
    before = after - 1
    if len(pts_seconds) == 1:
        return np.zeros_like(before)
    nearer: np.ndarray = np.where(times - pts_seconds[before] <= pts_seconds[after] - times, before, after)
    return nearer


def clip_indices(pts_seconds: np.ndarray, starts: np.ndarray, frames: int, frames_per_second: float) -> np.ndarray:
    """(N, frames) indices of the clips that begin at the frames `starts` (N,)."""
    times = pts_seconds[starts][:, None] + np.arange(frames) / frames_per_second
    return nearest(pts_seconds, times)


def possible_starts(
    pts_seconds: np.ndarray, frames: int, frames_per_second: float, scenes: np.ndarray | None = None
) -> np.ndarray:
    """(N,) frames at which a clip may begin: it ends within the recording and bridges no gap.

    A clip bridges a gap where the nearest frame is farther from the wanted time than `MOST_STEPS` of the clip, and
    where `scenes` (T,) numbers its first and last frame differently, unless every clip does that.
    """
    step = 1 / frames_per_second
    last = pts_seconds[-1] + step / 2 - span_seconds(frames, frames_per_second)
    starts = np.flatnonzero(pts_seconds <= last)
    indices = clip_indices(pts_seconds, starts, frames, frames_per_second)
    times = pts_seconds[starts][:, None] + np.arange(frames) * step
    near = (np.abs(pts_seconds[indices] - times) <= MOST_STEPS * step).all(1)
    if scenes is not None and (near & (one := scenes[indices[:, 0]] == scenes[indices[:, -1]])).any():
        near &= one
    kept: np.ndarray = starts[near]
    return kept
