"""The camera's view of a road: against a pinhole and a road walked step by step, written down once more."""

import math

import numpy as np
import pytest

from domains.driving.drives.road import START_M, Camera, Pose, Road, View

CAMERA = Camera((180, 320), 300.0, 1.4, 0.5)


def road(bend):
    return Road(np.full(400, bend), (), (), (), (-4.0, 4.0))


def walked(bend, s_m, d_m):
    """Place and heading of a point of a road of constant curvature, in steps of a centimetre from its beginning."""
    x = z = heading = 0.0
    for _ in range(round((s_m - START_M) * 100)):
        heading += bend * 0.01
        x, z = x + 0.01 * math.sin(heading), z + 0.01 * math.cos(heading)
    return x + d_m * math.cos(heading), z - d_m * math.sin(heading), heading


def pixel(bend, pose, s_m, d_m):
    """Where a point of the road is seen: moved and turned into the camera's axes, then divided by its depth."""
    x0, z0, heading = walked(bend, pose.s_m, pose.d_m)
    x1, z1, _ = walked(bend, s_m, d_m)
    own = heading + pose.off_road
    right = (x1 - x0) * math.cos(own) - (z1 - z0) * math.sin(own)
    ahead = (x1 - x0) * math.sin(own) + (z1 - z0) * math.cos(own)
    return 160 + 300 * right / ahead, 90 + pose.horizon_shift + 300 * 1.4 / ahead


@pytest.mark.parametrize("bend", [0.0, 1 / 250, -1 / 150])
def test_view__a_line_is_where_a_pinhole_sees_it(bend):
    pose = Pose(30.0, 1.2, 0.03, -4.0)
    view = View(road(bend), CAMERA, pose)
    for d in (-3.0, 0.0, 2.5):
        for ahead in (8.0, 20.0, 40.0):
            x, y = pixel(bend, pose, 30.0 + ahead, d)
            found = view.line(d, np.array([y - 0.5]))[0]
            assert abs(found - x) < 0.3
            right, forward, _ = view.place(30.0 + ahead, d)
            assert np.allclose(view.pixels(np.array([[right, 0.0, forward]]))[0], (x, y), atol=0.1)


def test_view__ground_and_line_agree():
    view = View(road(1 / 120), CAMERA, Pose(20.0, -1.0, -0.02, 3.0))
    rows = np.arange(105, 180, 5)
    across, along, *_ = view.ground(rows)
    line = view.line(2.0, rows)
    inside = (line > 1) & (line < 319)
    assert inside.sum() > 10
    for at, x in zip(np.flatnonzero(inside), line[inside], strict=True):
        assert abs(np.interp(x - 0.5, np.arange(320), across[at]) - 2.0) < 0.02
    assert (np.diff(along[:, 160]) < 0).all()


def test_view__nothing_above_the_horizon_or_too_far():
    view = View(road(0.0), CAMERA, Pose(0.0, 0.0, 0.0, 0.0))
    assert np.isnan(view.line(1.0, np.array([20, 89, 90, 92]))).all()
    assert not np.isnan(view.line(1.0, np.array([100, 179]))).any()
