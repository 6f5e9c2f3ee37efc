"""Free rows of scenes painted by hand: an open road, things in and beside the corridor, bonnets, unlabelled pixels."""

import numpy as np
import pytest

from domains.driving.classes import ROAD_CLASSES, VOID
from domains.driving.free_space import corridor, free_rows

ROAD, CAR, SKY, PERSON = (ROAD_CLASSES.index(name) for name in ("Road", "Car", "Sky", "Pedestrian"))


def street():
    """(200, 300): road below the middle row, sky above it."""
    classes = np.full((200, 300), ROAD, np.uint8)
    classes[:100] = SKY
    return classes


def test_corridor__two_metres_under_a_camera_at_1_4():
    inside = corridor((200, 300))
    assert not inside[:100].any() and inside[100:].any(1).all()
    assert inside[199].sum() == 142 and inside[149].sum() in (70, 71, 72)  # (row - 100) * 2 / 1.4
    assert np.array_equal(inside, inside[:, ::-1])


def test_free_rows__to_the_horizon_or_to_what_stands_in_the_way():
    assert free_rows(street()) == 100
    blocked = street()
    blocked[120:150, 120:180] = CAR
    assert free_rows(blocked) == pytest.approx(50, abs=1)
    person = street()
    person[120:160, 145:160] = PERSON  # 15 of 85 pixels at row 160: under a fifth there, more farther off
    assert 40 < free_rows(person) < 65


def test_free_rows__what_stands_beside_is_not_in_the_way():
    classes = street()
    classes[120:170, :90] = classes[120:170, 210:] = CAR
    assert free_rows(classes) == 100


def test_free_rows__the_own_bonnet_is_passed_and_a_car_right_ahead_is_not():
    bonnet = street()
    bonnet[170:] = CAR
    bonnet[100:130] = CAR
    assert free_rows(bonnet) == pytest.approx(70, abs=1)
    right_ahead = street()
    right_ahead[120:] = CAR
    assert free_rows(right_ahead) == 0
    assert free_rows(np.full((200, 300), VOID, np.uint8)) == 0


def test_free_rows__unlabelled_pixels_say_nothing():
    classes = street()
    classes[140:145] = VOID
    classes[:, :150] = VOID
    assert free_rows(classes) == 100
    classes[120:130, 150:] = CAR
    assert free_rows(classes) == pytest.approx(70, abs=1)


def test_free_rows__grow_with_the_frame():
    small, large = street(), np.kron(street(), np.ones((4, 4), np.uint8))
    small[120:150, 120:180] = CAR
    large[480:600, 480:720] = CAR
    assert free_rows(large) == pytest.approx(4 * free_rows(small), abs=8)
