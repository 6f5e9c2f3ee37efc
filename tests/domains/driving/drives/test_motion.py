"""How the car moves: telemetry and path tell the same story."""

import numpy as np
import pytest

from domains.driving.drives.motion import STEERING_RATIO, STEP_SECONDS, WHEELBASE_M, Plan, drive
from domains.driving.drives.road import Road


def driven(bend=0.0, stops=False, to=1.8, speed=12.0, seed=0):
    road = Road(np.full(500, bend), (), (), (), (-4.0, 4.0))
    return road, drive(road, Plan(1.8, to, speed, stops), 12.0, np.random.default_rng(seed))


@pytest.mark.parametrize(("bend", "to"), [(0.0, 1.8), (1 / 150, 1.8), (-1 / 150, 5.2)])
def test_drive__yaw_rate_adds_up_to_the_heading(bend, to):
    road, motion = driven(bend, to=to)
    heading = np.interp(motion.s_m, road.s_m, road.heading) + motion.off_road
    turned = -np.radians(np.cumsum(motion.yaw_rate_degrees_per_s)) * STEP_SECONDS
    assert np.abs((turned - turned[0]) - (heading - heading[0])).max() < 0.01


def test_drive__dead_reckoning_from_speed_and_yaw_rate_finds_the_lane_change():
    _, motion = driven(to=5.2)
    heading = np.cumsum(-np.radians(motion.yaw_rate_degrees_per_s)) * STEP_SECONDS + motion.off_road[0]
    across = motion.d_m[0] + np.cumsum(motion.speed_m_per_s * np.sin(heading)) * STEP_SECONDS
    assert np.abs(across - motion.d_m).max() < 0.05 and motion.d_m[-1] > 4.8


def test_drive__a_bend_to_the_right_is_steered_to_the_right():
    _, motion = driven(1 / 100)
    wanted = -np.degrees(np.arctan(WHEELBASE_M / (100 - motion.d_m.mean()))) * STEERING_RATIO
    assert motion.yaw_rate_degrees_per_s.mean() < 0
    assert abs(motion.steering_degrees.mean() - wanted) < 2.0


def test_drive__a_stop_is_a_stop():
    _, motion = driven(1 / 200, stops=True)
    still = motion.speed_m_per_s == 0
    assert 1.0 < still.sum() * STEP_SECONDS < 6.0 and motion.speed_m_per_s.max() > 8
    assert np.ptp(motion.s_m[still]) == 0 and (motion.yaw_rate_degrees_per_s[still] == 0).all()
    assert np.isfinite(motion.steering_degrees).all()
