"""One frame of a generated drive: what the camera sees at a moment, and what is true of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from domains.driving.classes import ROAD_CLASSES
from domains.driving.drives.ground import draw_ground
from domains.driving.drives.lens import Lamp, through_lens
from domains.driving.drives.road import FARTHEST_M, View
from domains.driving.drives.roadside import spot
from domains.driving.drives.scene import Scene
from domains.driving.drives.sprites import Canvas, Sprite, Tint
from domains.driving.drives.things import Thing
from domains.driving.drives.weather import headlights

NEAREST_M = 0.9
"""Nothing standing is drawn nearer to the camera."""
BOXED = {"Car": "vehicle", "Pedestrian": "pedestrian", "Bicyclist": "cyclist"}
"""Class of the road scene -> category of its box."""
SHADED_M = 45.0
"""Things farther away throw no shadow that could be seen."""
LEAST_VISIBLE, LEAST_PIXELS = 0.3, 12
"""Of a thing with a box: the share of it that is not hidden, and how many pixels of it are seen."""
_SHADOW = spot()


@dataclass(frozen=True)
class Box:
    """What is seen of a thing."""

    category: str
    left: int
    top: int
    right: int
    bottom: int
    """Pixels, the last ones outside: it is (right - left) wide."""
    visible: float
    """Share of it that nothing hides."""


@dataclass(frozen=True)
class Frame:
    """A picture and its truth."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    classes: np.ndarray
    """(H, W) uint8, of the road scene."""
    boxes: tuple[Box, ...]


def draw_frame(scene: Scene, seconds: float) -> Frame:
    """What the camera sees after so many seconds of driving; a pure function of both."""
    camera = scene.camera
    view = View(scene.road, camera, scene.motion.pose(seconds, camera.focal_pixels))
    height, width = camera.shape
    first = int(np.clip(np.ceil(view.horizon + 0.2), 1, height - 1))
    canvas = Canvas(np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.uint8),
                    np.full((height, width), -1, np.int32))  # fmt: skip
    turned = round(camera.focal_pixels * view.heading) + np.arange(width)
    columns = turned % scene.panorama.shape[1]
    canvas.image[:first] = scene.panorama[-first:, columns]
    canvas.classes[:first] = scene.panorama_classes[-first:, columns]
    canvas.image[first:], canvas.classes[first:] = draw_ground(scene, view, np.arange(first, height))
    own_s = view.pose.s_m
    seen = []
    for number, thing in enumerate(scene.things):
        s, d = thing.at(seconds, own_s)
        if own_s - 20 < s < own_s + FARTHEST_M and s + thing.length_m > own_s + 1 and _in_sight(view, thing, s, d):
            seen.append((s, d, number, thing))
    drawing = _Drawing(scene, view, canvas, seconds)
    whole = {number: drawing.stand(thing, number, s, d) for s, d, number, thing in sorted(seen, key=lambda t: -t[0])}
    image = through_lens(scene, view, canvas, drawing.lamps, seconds)
    return Frame(image, canvas.classes, _boxes(scene, whole, canvas))


def lanes(scene: Scene, seconds: float, rows: np.ndarray) -> list[list[float]]:
    """x of each lane line at heights y of `rows` (N,), from left to right; -2 where it is not seen.

    Both count pixels from the picture's left and top edges (`shapes.py`).

    A line goes on behind what hides it, as annotators draw it; it ends at the bonnet, at the picture's edge, and where
    it is `road.LABELLED_M` away. Lines with fewer than two points are left out.
    """
    view = View(scene.road, scene.camera, scene.motion.pose(seconds, scene.camera.focal_pixels))
    height, width = scene.camera.shape
    found = []
    for line in scene.road.lines:
        if line.is_lane:
            x = view.line(line.at_m, rows - 0.5)
            x = np.where((x >= 0) & (x < width) & (rows < height * (1 - scene.bonnet)), np.round(x, 1), -2.0)
            if np.count_nonzero(x >= 0) > 1:
                found.append((line.at_m, x.tolist()))
    return [x for _, x in sorted(found)]


def _in_sight(view: View, thing: Thing, s_m: float, d_m: float) -> bool:
    """Whether it can lie within the picture's sides, generously."""
    x, z, _ = view.place(s_m, d_m)
    half = view.camera.shape[1] / 2 / view.camera.focal_pixels
    return abs(x) < half * (max(z, 0) + thing.length_m) + thing.width_m + thing.length_m


@dataclass
class _Drawing:
    """The things of a frame, put onto its canvas one by one, far ones first."""

    scene: Scene
    view: View
    canvas: Canvas
    seconds: float

    def __post_init__(self) -> None:
        self.lamps: list[Lamp] = []

    def stand(self, thing: Thing, number: int, s_m: float, d_m: float) -> int:
        """Draws a thing and gives how many pixels it covers, hidden or not."""
        if thing.vehicle is not None:
            return self._vehicle(thing, number, s_m, d_m)
        if thing.length_m:
            return self._wall(thing, number, s_m, d_m)
        x, z, _ = self.view.place(s_m, d_m)
        if z < NEAREST_M + 1:
            return 0
        if thing.lift_m == 0 and thing.width_m < 2:
            self._shadow([(x - 0.4, z - 0.3), (x - 0.4, z + 0.3), (x + 0.4, z + 0.3), (x + 0.4, z - 0.3)])
        picture = thing.pictures[int(self.seconds * 2.2 + number) % len(thing.pictures)]
        left, right = (x - thing.width_m / 2, z), (x + thing.width_m / 2, z)
        return self._face(picture, left, right, thing, number)

    def _wall(self, thing: Thing, number: int, s_m: float, d_m: float) -> int:
        side = np.sign(d_m)
        road_side, back = d_m - side * thing.width_m / 2, d_m + side * thing.width_m / 2
        near, far, end = (self.view.place(*at)[:2] for at in ((s_m, road_side), (s_m + thing.length_m, road_side),
                                                              (s_m, back)))  # fmt: skip
        total = 0
        if thing.width_m and near[1] > NEAREST_M:
            ends = (end, near) if side < 0 else (near, end)
            total = self._face(thing.pictures[0], *ends, thing, number, 0.8)
        ends = (near, far) if side < 0 else (far, near)
        return total + self._face(thing.pictures[0], *ends, thing, number, 1.0 if side != self._sun else 0.75)

    def _vehicle(self, thing: Thing, number: int, s_m: float, d_m: float) -> int:
        vehicle = thing.vehicle
        assert vehicle is not None
        x, z, turned = self.view.place(s_m, d_m)
        ahead, right = np.array((np.sin(turned), np.cos(turned))), np.array((np.cos(turned), -np.sin(turned)))
        middle, half = np.array((x, z)), vehicle.width_m / 2 * right
        near_left, near_right = middle - half, middle + half
        far_left, far_right = (corner + ahead * vehicle.length_m for corner in (near_left, near_right))
        if far_left[1] < NEAREST_M:
            return 0
        fall = -self._sun * 0.7 * right * (self.scene.weather.shadow > 0)
        out = 0.25 * right
        self._shadow([near_left - out + np.minimum(fall, 0), far_left - out + np.minimum(fall, 0),
                      far_right + out + np.maximum(fall, 0), near_right + out + np.maximum(fall, 0)])  # fmt: skip
        total = 0
        if near_left @ right > 0:
            side = vehicle.side if thing.oncoming else vehicle.mirrored
            total += self._face(side, far_left, near_left, thing, number, 0.88 if self._sun > 0 else 1.05)
        if near_right @ right < 0:
            side = vehicle.mirrored if thing.oncoming else vehicle.side
            total += self._face(side, near_right, far_right, thing, number, 0.88 if self._sun < 0 else 1.05)
        if near_left[1] > NEAREST_M:
            face = vehicle.front if thing.oncoming else vehicle.rear
            total += self._face(face, near_left, near_right, thing, number)
            self._light_up(thing, number, near_left, near_right)
        return total

    def _light_up(self, thing: Thing, number: int, left: np.ndarray, right: np.ndarray) -> None:
        parked = thing.gap_m is None and thing.speed_m_per_s == 0
        weather = self.scene.weather
        if parked or not (weather.night or weather.rain):
            return
        assert thing.vehicle is not None
        for share in (0.1, 0.9):
            x, z = left + share * (right - left)
            point = self.view.pixels(np.array([[x, thing.vehicle.lamps_up_m, z]]))[0]
            self.lamps.append(Lamp(float(point[0]), float(point[1]), float(z), thing.oncoming, number))

    def _shadow(self, corners: list[tuple[float, float]] | list[np.ndarray]) -> None:
        """On the ground: weaker at night, and left out where it would be a line."""
        places = np.array([(x, 0.0, max(z, NEAREST_M)) for x, z in corners])
        if places[0, 2] > SHADED_M:
            return
        strength = 0.35 if self.scene.weather.night else 0.45 + 0.35 * self.scene.weather.shadow
        haze = 1 - float(np.exp(-places[:, 2].mean() / self.scene.weather.haze_m))
        self.canvas.paste(_SHADOW, self.view.pixels(places), (0, 0, 0), (0, 0, 0), strength=strength * (1 - haze))

    def _face(
        self, picture: Sprite, left: tuple[float, float] | np.ndarray, right: tuple[float, float] | np.ndarray,
        thing: Thing, number: int, light: float = 1.0,
    ) -> int:  # fmt: skip
        """A standing rectangle between two places (x, z) on the ground; what lies behind the camera is cut off."""
        (x0, z0), (x1, z1) = left, right
        if max(z0, z1) < NEAREST_M:
            return 0
        first = (NEAREST_M - z0) / (z1 - z0) if z0 < NEAREST_M else 0.0
        last = (NEAREST_M - z0) / (z1 - z0) if z1 < NEAREST_M else 1.0
        (x0, z0), (x1, z1) = ((x0 + t * (x1 - x0), z0 + t * (z1 - z0)) for t in (first, last))
        low, high = thing.lift_m, thing.lift_m + thing.height_m
        corners = self.view.pixels(np.array([(x0, high, z0), (x1, high, z1), (x1, low, z1), (x0, low, z0)]))
        if corners[0, 0] >= corners[1, 0]:
            return 0
        tint, haze = self._tint((x0 + x1) / 2, (z0 + z1) / 2, light)
        label = ROAD_CLASSES.index(thing.kind)
        return self.canvas.paste(picture, corners, tint, haze, number, label, part=(first, last))

    @property
    def _sun(self) -> int:
        return self.scene.weather.sun_side

    def _tint(self, x: float, z: float, light: float) -> tuple[Tint, Tint]:
        """Factors of a thing's colour at a place, and the colour of the air in front of it."""
        weather = self.scene.weather
        lit = np.asarray(weather.ambient) * light
        if weather.night:
            own = float(headlights(np.array(x), np.array(z)))
            lamps = 0.16 if self.scene.lamps_every_m else 0.0
            lit = lit + 0.9 * own * np.array((1, 0.97, 0.88)) + lamps * np.array((1, 0.8, 0.52))
        clear = float(np.exp(-max(z, 0.0) / weather.haze_m))
        return _three(lit * clear), _three(np.asarray(weather.haze) * (1 - clear))


def _three(colour: np.ndarray) -> Tint:
    red, green, blue = colour.tolist()
    return red, green, blue


def _boxes(scene: Scene, whole: dict[int, int], canvas: Canvas) -> tuple[Box, ...]:
    """The boxes of the things that have one and are not almost hidden."""
    extents = ndimage.find_objects(canvas.owners + 1, max_label=max(whole, default=-1) + 1)
    boxes = []
    for number, area in whole.items():
        thing, extent = scene.things[number], extents[number]
        if thing.kind not in BOXED or extent is None:
            continue
        visible = np.count_nonzero(canvas.owners[extent] == number)
        if visible >= max(LEAST_PIXELS, LEAST_VISIBLE * area):
            rows, columns = extent
            boxes.append(
                Box(BOXED[thing.kind], columns.start, rows.start, columns.stop, rows.stop, min(1.0, visible / area))
            )
    return tuple(boxes)
