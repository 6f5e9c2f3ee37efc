"""Clips are cut by time: against a slow search, over uneven rates, and never over a gap."""

import numpy as np
import pytest

from domains.driving.clips import clip_indices, nearest, possible_starts, span_seconds


def test_nearest__against_a_search_through_all_frames():
    draw = np.random.default_rng(0)
    pts = np.sort(draw.uniform(0, 5, 40))
    times = draw.uniform(-1, 6, (3, 50))
    slow = [[int(np.abs(pts - time).argmin()) for time in row] for row in times]
    assert np.array_equal(nearest(pts, times), slow)
    assert nearest(np.array([2.0]), times).max() == 0


@pytest.mark.parametrize(("rate", "expected"), [(10, [3, 4, 5, 6]), (20, [3, 5, 7, 9]), (30, [3, 6, 9, 12])])
def test_clip_indices__same_times_whatever_the_rate(rate, expected):
    pts = np.arange(40) / rate
    assert clip_indices(pts, np.array([3]), 4, 10).tolist() == [expected]


def test_clip_indices__uneven_frames_are_taken_by_time_not_by_number():
    pts = np.array([0.0, 0.01, 0.02, 0.11, 0.19, 0.215, 0.30])
    assert clip_indices(pts, np.array([0]), 4, 10).tolist() == [[0, 3, 4, 6]]


def test_possible_starts__ends_within_the_recording():
    pts = np.arange(12) / 10
    assert possible_starts(pts, 8, 10).tolist() == [0, 1, 2, 3, 4]
    assert span_seconds(8, 10) == pytest.approx(0.7)


def test_possible_starts__no_clip_bridges_a_gap():
    pts = np.concatenate([np.arange(10) / 10, 3 + np.arange(10) / 10])
    assert possible_starts(pts, 8, 10).tolist() == [0, 1, 2, 10, 11, 12]
    assert len(possible_starts(np.arange(30.0), 8, 10)) == 0  # one frame a second
    assert possible_starts(np.array([0.0]), 1, 10).tolist() == [0]
