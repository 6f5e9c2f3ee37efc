"""Lanes as arrays: slots by where a lane meets the lower edge, x at rows, ends, and how fast lanes move."""

import numpy as np
import pytest

from domains.driving.lanes import SLOTS, at_bottom, jitter, lanes_at, present
from domains.driving.shapes import Shape, moved

ROWS = np.array([10.0, 30.0, 50.0, 70.0, 90.0])
SIZE = (100, 200)


def lane(*pairs):
    return Shape(0, 0, np.array(pairs, np.float32))


def upright(x, top=0, bottom=100):
    return lane((x, top), (x, bottom))


def test_lanes_at__slots_are_counted_from_the_middle():
    shapes = [upright(x) for x in (190, 20, 110, 80, 150)]
    found = lanes_at(shapes, ROWS, SIZE)
    assert found.shape == (SLOTS, 5)
    assert np.array_equal(found[:, 0], [np.nan, 20, 80, 110, 150, 190], equal_nan=True)


def test_lanes_at__a_lane_belongs_to_the_side_where_it_meets_the_lower_edge():
    # seen only far away, right of the middle, and leaning to the left side of the picture
    leaning = lane((120, 20), (110, 30), (100, 40))
    found = lanes_at([leaning], ROWS, SIZE)
    assert np.array_equal(found[2], [np.nan, 110, np.nan, np.nan, np.nan], equal_nan=True)
    assert at_bottom(leaning.points.astype(float), 100) == pytest.approx(40)


def test_lanes_at__rows_between_points_and_beyond_the_picture():
    found = lanes_at(
        [lane((150, 20), (250, 70), (290, 90)), lane((np.nan, 0), (40, 45), (np.nan, 60), (44, 80))], ROWS, SIZE
    )
    assert np.array_equal(found[3], [np.nan, 170, np.nan, np.nan, np.nan], equal_nan=True)
    assert found[2] == pytest.approx([np.nan, np.nan, 40 + 4 * 5 / 35, 40 + 4 * 25 / 35, np.nan], nan_ok=True)
    assert np.isnan(lanes_at([upright(300), lane((5, 5))], ROWS, SIZE)).all()


def test_lanes_at__in_a_mirror_the_slots_change_sides():
    draw = np.random.default_rng(0)
    for _ in range(20):
        shapes = [lane(*((x + lean * y, y) for y in range(0, 101, 5))) for x, lean in
                  zip(draw.uniform(10, 190, 5), draw.uniform(-0.5, 0.5, 5), strict=True)]  # fmt: skip
        mirror = np.array([[-1.0, 0, SIZE[1]], [0, 1, 0]])
        plain, turned = (lanes_at(some, ROWS, SIZE) for some in (shapes, [moved(s, mirror) for s in shapes]))
        assert turned[::-1] == pytest.approx(SIZE[1] - plain, nan_ok=True, abs=1e-3)


def prediction(there):
    frame = np.zeros((SLOTS, 5, 3), np.float32)
    frame[3, :, 0], frame[..., 1], frame[3, :, 2] = [10, 20, 30, 40, 50], ROWS, there
    return frame


def test_present__gaps_are_filled_and_ends_reach_half_a_row_further():
    [(slot, points)] = present(prediction([0.2, 0.9, 0.4, 0.8, 0.7]))
    assert slot == 3 and points.tolist() == [[15, 20], [20, 30], [30, 50], [40, 70], [50, 90], [55, 100]]
    assert present(prediction([0.9, 0.1, 0.1, 0.1, 0.9])) == []


def test_present__rows_that_jump_aside_are_not_believed():
    rows = np.arange(20) * 8.0 + 4
    bend = 40 + 0.5 * rows + 0.004 * rows**2
    frame = np.zeros((SLOTS, 20, 3), np.float32)
    frame[2] = np.stack([bend, rows, np.full(20, 0.9)], 1)
    frame[2, [3, 4, 5, 12, 19], 0] += [90, 95, -60, 70, 80]
    [(_, points)] = present(frame)
    assert points[1:-1, 1].tolist() == rows[:19].tolist()  # the last row was one of them
    assert np.abs(points[1:-1, 0] - bend[:19]).max() < 1.5  # straight across what was left out
    frame[2, :, 0] = np.random.default_rng(0).normal(bend, 4)  # a wobble is none
    assert len(present(frame)[0][1]) == 22


def test_jitter__by_hand():
    frames = np.full((4, SLOTS, 2), np.nan)
    frames[:, 2, 0] = [10, 12, 9, 9]  # 2 and 3 in a tenth of a second; then a gap
    frames[:2, 3, 1] = [50, 51]
    moved_by, points = jitter(frames, np.array([0.0, 0.1, 0.2, 1.2]), 0.25)
    assert (moved_by, points) == (pytest.approx(20 + 30 + 10), 3)
    assert jitter(frames[:1], np.zeros(1), 0.25) == (0, 0)
