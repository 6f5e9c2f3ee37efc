"""CULane's figures: lines worked out by hand, the official spline written out slowly, matching by all permutations."""

import math
from itertools import pairwise, permutations

import cv2
import numpy as np
import pytest

from domains.driving.culane import THRESHOLDS, curved, drawn, f1, matches, overlaps

SIZE = (590, 1640)


def upright(x, top=100, bottom=500):
    return np.array([[x, top], [x, (top + bottom) / 2], [x, bottom]], float)


def slow_spline(points, times=50):
    """The natural spline of the official code, solved by the tridiagonal algorithm step by step."""
    n = len(points)
    h = [math.dist(points[i], points[i + 1]) for i in range(n - 1)]
    out = []
    second = []
    for axis in (0, 1):
        v = [p[axis] for p in points]
        rhs = [6 * ((v[i + 2] - v[i + 1]) / h[i + 1] - (v[i + 1] - v[i]) / h[i]) for i in range(n - 2)]
        above, diagonal = [], []
        for i in range(n - 2):
            d = 2 * (h[i] + h[i + 1]) - (h[i] * above[i - 1] if i else 0)
            rhs[i] = (rhs[i] - (h[i] * rhs[i - 1] if i else 0)) / d
            above.append(h[i + 1] / d)
            diagonal.append(d)
        m = [0.0] * n
        for i in reversed(range(n - 2)):
            m[i + 1] = rhs[i] - above[i] * m[i + 2]
        second.append(m)
    for j in range(n - 1):
        for k in range(times):
            t, point = h[j] * k / times, []
            for axis, m in enumerate(second):
                a, b = points[j][axis], points[j + 1][axis]
                slope = (b - a) / h[j] - (2 * h[j] * m[j] + h[j] * m[j + 1]) / 6
                point.append(a + slope * t + m[j] / 2 * t**2 + (m[j + 1] - m[j]) / (6 * h[j]) * t**3)
            out.append(point)
    return np.array([*out, points[-1]])


def test_curved__is_the_official_spline():
    draw = np.random.default_rng(0)
    for _ in range(20):
        n = draw.integers(3, 12)
        lane = np.stack([draw.uniform(0, 1640, n), np.arange(n) * 40.0 + draw.uniform(0, 20, n)], 1)
        assert np.allclose(curved(lane), slow_spline(lane.tolist()), atol=1e-6)
    two = np.array([[0.0, 0], [9, 9]])
    assert np.array_equal(curved(two), two)
    assert np.array_equal(curved(np.array([[1.0, 2], [1, 2], [3, 4]])), [[1, 2], [3, 4]])


def test_drawn__as_line_after_line():
    lane = np.array([[300, 580], [500, 400], [560, 300], [700, 200]], float)
    canvas = np.zeros(SIZE, np.uint8)
    curve = np.rint(slow_spline(lane.tolist())).astype(int).tolist()
    for a, b in pairwise(curve):
        cv2.line(canvas, a, b, 1, 30)
    assert np.array_equal(drawn(lane, SIZE), canvas > 0)


def test_overlaps__of_upright_bands_by_hand():
    width = int(drawn(upright(700), SIZE)[300].sum())
    assert width in (30, 31)
    for by in (0, 5, 10, 20, 40):
        # two bands of one height: the share of their width, but for the round ends
        wanted = max(0, width - by) / (width + min(by, width))
        assert overlaps([upright(700 + by)], [upright(700)], SIZE)[0, 0] == pytest.approx(wanted, abs=0.02)
    assert overlaps([np.array([[5.0, 5]])], [upright(700)], SIZE)[0, 0] == 0


def test_matches__a_third_of_the_width_away_is_not_found():
    truth = [upright(300), upright(700)]
    at_half = [matches([upright(300 + by), upright(700)], truth, SIZE)[0] for by in (0, 9, 11)]
    assert at_half == [2, 2, 1]
    assert matches([], truth, SIZE) == [0] * 10 == matches(truth, [], SIZE)
    strict = matches([upright(305), upright(700)], truth, SIZE)  # IoU about 26 / 36
    assert strict == [2 if t < 0.72 else 1 for t in THRESHOLDS]


def test_matches__one_to_one_even_where_a_lane_prefers_a_taken_one():
    # both predictions are nearest to the lane at 700; only one may have it
    assert matches([upright(699), upright(702)], [upright(700)], SIZE)[0] == 1
    draw = np.random.default_rng(1)
    for _ in range(10):
        truth = [upright(x) for x in draw.uniform(600, 700, 4)]
        predicted = [upright(x) for x in draw.uniform(600, 700, 3)]
        shared = overlaps(predicted, truth, SIZE)
        best = max(permutations(range(4), 3), key=lambda p: sum(shared[i, j] for i, j in enumerate(p)))
        assert matches(predicted, truth, SIZE)[0] == sum(shared[i, j] > 0.5 for i, j in enumerate(best))


def test_f1__of_sums():
    assert f1(3, 4, 5) == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert f1(0, 2, 0) == 0 and math.isnan(f1(0, 0, 0))
