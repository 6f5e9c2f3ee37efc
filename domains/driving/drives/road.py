"""The road as a line with a curvature, what is painted and laid along it, and how the camera sees it.

Along the road counts `s_m`, across it `d_m`, positive to the right. The camera's axes are right, up and forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

START_M, STEP_M = -60.0, 1.0
FARTHEST_M = 140.0
"""Ahead of the camera; beyond that there is only the horizon."""
LABELLED_M = 75.0
"""A lane line farther away than this is not labelled: it is a pixel or less wide."""

Colour = tuple[float, float, float]
"""Red, green, blue in 0..255."""


@dataclass(frozen=True)
class Strip:
    """Ground of one kind between two distances from the road's middle."""

    kind: str
    """A class of the road scene."""
    left_m: float
    right_m: float
    colour: Colour
    texture: float
    """How much its brightness varies, as a share."""


@dataclass(frozen=True)
class Line:
    """Paint along the road."""

    at_m: float
    """Its middle."""
    width_m: float
    colour: Colour
    dash_m: tuple[float, float] | None
    """Length painted, length of a whole period; None where it does not end."""
    wear: float
    """Share of the paint that is gone, 0..0.6."""
    is_lane: bool = True
    """False for the second line of a double one, and for what is no paint at all (seams of tar)."""


@dataclass(frozen=True)
class Road:
    """A road of constant cross-section."""

    curvature_per_m: np.ndarray
    """(N,) at START_M, START_M + STEP_M, ...; positive bends to the right."""
    strips: tuple[Strip, ...]
    """Later ones lie on top."""
    lines: tuple[Line, ...]
    crossings_m: tuple[float, ...]
    """Where bars for pedestrians begin."""
    edges_m: tuple[float, float]
    """Of the carriageway."""

    @cached_property
    def s_m(self) -> np.ndarray:
        return START_M + STEP_M * np.arange(len(self.curvature_per_m))

    @cached_property
    def heading(self) -> np.ndarray:
        """(N,) radians, clockwise from the heading at the beginning."""
        return np.cumsum(self.curvature_per_m) * STEP_M

    @cached_property
    def middle(self) -> np.ndarray:
        """(2, N) metres to the right and ahead, of the road's middle."""
        half_way = self.heading - self.curvature_per_m * STEP_M / 2
        return np.cumsum([np.sin(half_way), np.cos(half_way)], axis=1) * STEP_M


@dataclass(frozen=True)
class Camera:
    """A pinhole over flat ground; pitch shows as a moved horizon."""

    shape: tuple[int, int]
    focal_pixels: float
    height_m: float
    horizon: float
    """Row at rest, as a share of the picture's height."""


@dataclass(frozen=True)
class Pose:
    """Where the camera is."""

    s_m: float
    d_m: float
    off_road: float
    """Radians of its heading against the road's, clockwise."""
    horizon_shift: float
    """Pixels down, from pitch."""


@dataclass(frozen=True)
class View:
    """The road as it lies in front of a camera at one moment."""

    road: Road
    camera: Camera
    pose: Pose
    heading: float = field(init=False)
    """Radians, clockwise from that of the road's beginning."""
    _ahead: np.ndarray = field(init=False)
    """(4, M) of the road's middle: metres to the right, metres forward, heading against the camera's, s_m."""

    def __post_init__(self) -> None:
        road, pose = self.road, self.pose
        s = pose.s_m + np.arange(-4.0, FARTHEST_M + 30, STEP_M)
        heading = np.interp(s, road.s_m, road.heading)
        x, z = (np.interp(s, road.s_m, axis) for axis in road.middle)
        own = float(np.interp(pose.s_m, road.s_m, road.heading)) + pose.off_road
        at = [np.interp(pose.s_m, road.s_m, axis) for axis in road.middle]
        along = own - pose.off_road
        x, z = x - at[0] - pose.d_m * np.cos(along), z - at[1] + pose.d_m * np.sin(along)
        right, forward = x * np.cos(own) - z * np.sin(own), x * np.sin(own) + z * np.cos(own)
        relative = heading - own
        ends = np.flatnonzero((np.abs(relative) > 1.2) | (np.diff(forward, prepend=-np.inf) <= 0))
        until = ends[0] if len(ends) else len(s)
        object.__setattr__(self, "heading", own)
        object.__setattr__(self, "_ahead", np.array([right, forward, relative, s])[:, :until])

    @property
    def horizon(self) -> float:
        """Its row."""
        return self.camera.shape[0] * self.camera.horizon + self.pose.horizon_shift

    def ground(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Metres across and along the road (N, W), forward (N, 1) and to the right (N, W), of pixels of rows (N,)."""
        camera = self.camera
        z = self.depth(rows)[:, None]
        x = (np.arange(camera.shape[1]) + 0.5 - camera.shape[1] / 2) * z / camera.focal_pixels
        middle, relative, s = (np.interp(z, self._ahead[1], axis) for axis in self._ahead[[0, 2, 3]])
        off = x - middle
        return off * np.cos(relative), s + off * np.sin(relative), z, x

    def depth(self, rows: np.ndarray) -> np.ndarray:
        """Metres forward of the ground seen at the middle of rows below the horizon."""
        depth: np.ndarray = self.camera.focal_pixels * self.camera.height_m / (rows + 0.5 - self.horizon)
        return depth

    def line(self, d_m: float, rows: np.ndarray) -> np.ndarray:
        """x in pixels at which a line along the road crosses rows (N,); nan above the ground or out of sight."""
        camera = self.camera
        below = rows + 0.5 > self.horizon + 0.5
        z = np.where(below, self.depth(np.where(below, rows, self.horizon + 1)), np.inf)
        last = min(LABELLED_M, float(self._ahead[1, -1]))
        seen = z <= last
        z = np.where(seen, z, 1.0)
        middle, relative = (np.interp(z, self._ahead[1], axis) for axis in self._ahead[[0, 2]])
        x = (middle + d_m / np.cos(relative)) * camera.focal_pixels / z + camera.shape[1] / 2
        return np.where(seen, x, np.nan)

    def place(self, s_m: float, d_m: float) -> tuple[float, float, float]:
        """Metres to the right and forward of a point of the road, and the road's heading there against the camera's."""
        ahead = self._ahead
        at = min(max((s_m - ahead[3, 0]) / STEP_M, 0.0), ahead.shape[1] - 1.001)
        step = int(at)
        x, z, relative, _ = (ahead[:, step] + (at - step) * (ahead[:, step + 1] - ahead[:, step])).tolist()
        return x + d_m * math.cos(relative), z - d_m * math.sin(relative), relative

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) metres right, up, forward -> (N, 2) x, y in pixels, where 0.5 is the middle of the first."""
        camera = self.camera
        scale = camera.focal_pixels / points[:, 2]
        found = np.empty((len(points), 2))
        found[:, 0] = camera.shape[1] / 2 + points[:, 0] * scale
        found[:, 1] = self.horizon + (camera.height_m - points[:, 1]) * scale
        return found
