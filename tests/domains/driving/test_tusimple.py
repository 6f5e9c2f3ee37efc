"""TuSimple's figures: by hand in every odd corner, and against the official formulas written out slowly."""

import math

import numpy as np
import pytest

from domains.driving import tusimple
from domains.driving.tusimple import judge

ROWS = list(range(100, 300, 10))
UPRIGHT = [500.0] * 20


def shifted(lane, by):
    return [x + by if x >= 0 else x for x in lane]


def slow(pred, gt, y_samples, running_time):
    """The official code's steps, one number at a time."""
    if running_time > 200 or len(gt) + 2 < len(pred):
        return 0.0, 0.0, 1.0
    accuracies, fn, matched = [], 0, 0
    for lane in gt:
        known = [(x, y) for x, y in zip(lane, y_samples, strict=True) if x >= 0]
        slope = np.polyfit([y for _, y in known], [x for x, _ in known], 1)[0] if len(known) > 1 else 0
        threshold = 20 / math.cos(math.atan(slope))
        best = 0.0
        for other in pred:
            right = 0
            for p, g in zip(other, lane, strict=True):
                p, g = (p if p >= 0 else -100), (g if g >= 0 else -100)
                right += 1 if abs(p - g) < threshold else 0
            best = max(best, right / len(lane))
        if best < 0.85:
            fn += 1
        else:
            matched += 1
        accuracies.append(best)
    fp = len(pred) - matched
    if len(gt) > 4 and fn > 0:
        fn -= 1
    total = sum(accuracies)
    if len(gt) > 4:
        total -= min(accuracies)
    return (
        total / max(min(4.0, len(gt)), 1.0),
        fp / len(pred) if pred else 0.0,
        fn / max(min(len(gt), 4.0), 1.0),
    )


def test_judge__right_and_missing_lanes():
    assert judge([UPRIGHT], [UPRIGHT], ROWS) == (1, 0, 0)
    assert judge([], [UPRIGHT], ROWS) == (0, 0, 1)
    assert judge([UPRIGHT], [], ROWS) == (0, 1, 0)
    assert judge([], [], ROWS) == (0, 0, 0)


def test_judge__twenty_pixels_are_too_far():
    assert judge([shifted(UPRIGHT, 19.9)], [UPRIGHT], ROWS) == (1, 0, 0)
    assert judge([shifted(UPRIGHT, 20)], [UPRIGHT], ROWS) == (0, 1, 1)


def test_judge__a_tilted_lane_is_judged_across_it():
    tilted = [100.0 + 1.0 * (y - 100) for y in ROWS]  # 45 degrees: 20 / cos = 28.28
    assert judge([shifted(tilted, 28.2)], [tilted], ROWS) == (1, 0, 0)
    assert judge([shifted(tilted, 28.3)], [tilted], ROWS) == (0, 1, 1)


def test_judge__absent_on_both_sides_is_right():
    half = UPRIGHT[:10] + [-2.0] * 10
    assert judge([half], [half], ROWS) == (1, 0, 0)
    assert judge([UPRIGHT], [half], ROWS) == (0.5, 1, 1)
    # 17 of 20 rows are enough
    almost = UPRIGHT[:17] + [-2.0] * 3
    assert judge([almost], [UPRIGHT], ROWS) == (0.85, 0, 0)


def test_judge__one_prediction_may_match_two_lanes():
    two = [UPRIGHT, shifted(UPRIGHT, 30)]
    assert judge([shifted(UPRIGHT, 15)], two, ROWS) == (1, -1, 0)


def test_judge__too_many_or_too_slow():
    wrong = [shifted(UPRIGHT, 100 * n) for n in range(1, 5)]
    assert judge([UPRIGHT, *wrong[:2]], [UPRIGHT], ROWS) == (1, 2 / 3, 0)
    assert judge([UPRIGHT, *wrong[:3]], [UPRIGHT], ROWS) == (0, 0, 1)
    assert judge([UPRIGHT], [UPRIGHT], ROWS, run_time_ms=200) == (1, 0, 0)
    assert judge([UPRIGHT], [UPRIGHT], ROWS, run_time_ms=201) == (0, 0, 1)


def test_judge__of_five_lanes_the_worst_is_forgiven():
    five = [shifted(UPRIGHT, 100 * n) for n in range(5)]
    assert judge(five[:4], five, ROWS) == (1, 0, 0)
    assert judge(five[:3], five, ROWS) == (0.75, 0, 0.25)
    assert judge(five[:3], five[:4], ROWS) == (0.75, 0, 0.25)


def test_judge__another_number_of_rows():
    with pytest.raises(ValueError, match="20 points"):
        judge([UPRIGHT[:19]], [UPRIGHT], ROWS)


def test_judge__agrees_with_the_official_steps():
    draw = np.random.default_rng(0)
    for _ in range(300):
        truth = []
        for _ in range(draw.integers(0, 7)):
            x = draw.uniform(0, 1280) + draw.uniform(-3, 3) * (np.array(ROWS) - 100)
            x[: draw.integers(0, 8)] = -2
            truth.append(np.where((x >= 0) & (x < 1280), x, -2).tolist())
        predicted = [shifted(lane, draw.normal(0, 15)) for lane in truth if draw.random() < 0.8]
        predicted += [draw.uniform(-200, 1280, 20).tolist() for _ in range(draw.integers(0, 4))]
        run_time_ms = float(draw.choice([5, 300], p=[0.9, 0.1]))
        ours = judge(predicted, truth, ROWS, run_time_ms)
        assert ours == pytest.approx(slow(predicted, truth, ROWS, run_time_ms))


def test_f1__from_the_mean_rates():
    assert tusimple.f1(0, 0) == 1 and tusimple.f1(1, 1) == 0
    assert tusimple.f1(0.2, 0.5) == pytest.approx(2 * 0.8 * (0.8 / 1.3) / (0.8 + 0.8 / 1.3))
