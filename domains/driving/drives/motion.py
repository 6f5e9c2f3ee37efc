"""How the camera's car moves: speed, place in its lane, heading, yaw rate and steering, for every moment of a drive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from domains.driving.drives.road import Pose, Road

WHEELBASE_M, STEERING_RATIO = 2.7, 15.0
PATH_STEP_M, STEP_SECONDS = 0.25, 0.01
SHAKE = 0.006
"""Standard deviation of the pitch at 20 m/s, in radians."""


@dataclass(frozen=True)
class Motion:
    """What is true of the car at the times 0, STEP_SECONDS, ... of a drive; all arrays are (N,)."""

    seconds: np.ndarray
    speed_m_per_s: np.ndarray
    steering_degrees: np.ndarray
    """Of the wheel, positive to the left."""
    yaw_rate_degrees_per_s: np.ndarray
    """Positive to the left."""
    s_m: np.ndarray
    d_m: np.ndarray
    off_road: np.ndarray
    pitch: np.ndarray
    """Radians, positive when the bonnet dips: the horizon rises."""

    def at(self, name: str, seconds: Any) -> np.ndarray:
        """One of the arrays at a time or at times."""
        value: np.ndarray = np.interp(seconds, self.seconds, getattr(self, name))
        return value

    def pose(self, seconds: float, focal_pixels: float) -> Pose:
        s, d, off, pitch = (float(self.at(name, seconds)) for name in ("s_m", "d_m", "off_road", "pitch"))
        return Pose(s, d, off, -focal_pixels * float(np.tan(pitch)))


@dataclass(frozen=True)
class Plan:
    """What the driver means to do."""

    lane_m: float
    """Middle of the own lane."""
    next_lane_m: float
    """Middle of the lane it changes to half-way; the own one where it does not."""
    speed_m_per_s: float
    stops: bool
    """Whether it comes to a stand for some seconds."""


def drive(road: Road, plan: Plan, seconds: float, draw: np.random.Generator) -> Motion:
    """The motion along a road: what the wheels do follows from the path, and the path from where the car shall be."""
    times = np.arange(0, seconds + 2 * STEP_SECONDS, STEP_SECONDS)
    speed = _speed(plan, times, draw)
    travelled = np.cumsum(speed) * STEP_SECONDS
    path_m = np.arange(0, travelled[-1] + 2, PATH_STEP_M)
    d = _across(plan, path_m, travelled[-1], draw)
    off_road = np.arcsin(np.gradient(d, PATH_STEP_M))
    s = np.zeros_like(path_m)
    for i in range(1, len(s)):  # on the inside of a bend one gets on faster
        bend = np.interp(s[i - 1], road.s_m, road.curvature_per_m)
        s[i] = s[i - 1] + PATH_STEP_M * np.cos(off_road[i]) / (1 - bend * d[i])
    curvature = np.gradient(np.interp(s, road.s_m, road.heading) + off_road, PATH_STEP_M)
    bend, s, d, off_road = (np.interp(travelled, path_m, along) for along in (curvature, s, d, off_road))
    shake = SHAKE * np.minimum(1.5, speed / 20) * _wander(draw, len(times), 0.12 / STEP_SECONDS)
    return Motion(
        seconds=times,
        speed_m_per_s=speed,
        steering_degrees=-np.degrees(np.arctan(WHEELBASE_M * bend)) * STEERING_RATIO,
        yaw_rate_degrees_per_s=-np.degrees(bend * speed),
        s_m=s,
        d_m=d,
        off_road=off_road,
        pitch=shake - 0.004 * np.gradient(speed, STEP_SECONDS),
    )


def _speed(plan: Plan, times: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    speed = plan.speed_m_per_s * (1 + 0.12 * _wander(draw, len(times), 2.5 / STEP_SECONDS))
    if plan.stops:
        begin = draw.uniform(0.25, 0.45) * times[-1]
        slow = np.clip((begin - times) / 3.0, 0, 1) + np.clip((times - begin - 2.5) / 3.5, 0, 1)
        speed = speed * (slow * slow * (3 - 2 * slow))
    return np.maximum(0, speed)


def _across(plan: Plan, path_m: np.ndarray, length_m: float, draw: np.random.Generator) -> np.ndarray:
    """(N,) metres across the road along the path."""
    long = max(20.0, 3.5 * plan.speed_m_per_s)
    share = np.clip((path_m - draw.uniform(0.2, 0.5) * length_m) / long, 0, 1)
    smooth = share**3 * (10 - 15 * share + 6 * share**2)
    wander = 0.12 * _wander(draw, len(path_m), max(4.0, plan.speed_m_per_s) * 1.2 / PATH_STEP_M)
    return plan.lane_m + (plan.next_lane_m - plan.lane_m) * smooth + wander


def _wander(draw: np.random.Generator, length: int, smooth: float) -> np.ndarray:
    """(length,) of deviation about 1, without jumps within `smooth` steps."""
    extra = int(4 * smooth) + 1
    noise = ndimage.gaussian_filter1d(draw.normal(0, 1, length + 2 * extra), smooth)[extra : extra + length]
    wandering: np.ndarray = noise * np.sqrt(2 * np.sqrt(np.pi) * smooth)
    return wandering
