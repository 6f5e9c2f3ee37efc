"""Generated drives: a straight or bending street in perspective, with exact masks of the road scene and exact lanes.

`images/drive000_000000.png` ... with masks of the same names in `masks/`, `images/drive000.lanes.jsonl`, and what the
mask values mean in `classes.txt`: the layout of CamVid. Ten frames a second; each drive has its own street, light and
speed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from domains.driving.classes import ROAD_CLASSES

FRAMES_PER_DRIVE = 10
NUMBERS_PER_FRAME = 3
"""File numbers count thirtieths of a second."""
SIZE = (240, 320)
FOCAL, CAMERA_HEIGHT_M = 260.0, 1.4
NEAREST_M, FARTHEST_M = 1.6, 90.0
LANE_M, PAVEMENT_M = 3.4, 2.2
LANE_SAMPLES = range(SIZE[0] // 2 + 10, SIZE[0], 5)
"""Rows at which lanes are given."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Thing:
    """A box that stands beside or on the road."""

    kind: str
    x_m: float
    """Of its left side, from the middle of the road."""
    z_m: float
    """Along the road at the drive's beginning."""
    width_m: float
    height_m: float
    colour: tuple[int, int, int]
    speed_m_per_s: float = 0.0
    lift_m: float = 0.0


@dataclass(frozen=True)
class Street:
    """What one drive looks like."""

    things: tuple[Thing, ...]
    speed_m_per_s: float
    bend: float
    """Sideways shift in m at 1 m ahead; grows with the square of the distance."""
    light: float
    sky: tuple[int, int, int]
    texture: np.ndarray
    """(H, W) float32, about -1..1."""


@dataclass
class _Canvas:
    """An image and its mask, painted together."""

    image: Image.Image = field(default_factory=lambda: Image.new("RGB", SIZE[::-1]))
    mask: Image.Image = field(default_factory=lambda: Image.new("L", SIZE[::-1]))

    def polygon(self, kind: str, points: list[Point], colour: tuple[int, int, int]) -> None:
        ImageDraw.Draw(self.image).polygon(points, fill=colour)
        ImageDraw.Draw(self.mask).polygon(points, fill=ROAD_CLASSES.index(kind))


def generate(folder: Path, subjects: int, seed: int) -> None:
    """Writes `subjects` frames, ten a drive, with masks and lanes below `folder`; the same for the same seed."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for first in range(0, subjects, FRAMES_PER_DRIVE):
        drive = first // FRAMES_PER_DRIVE
        street = _street(np.random.default_rng([seed, drive]))
        lines = []
        for number in range(min(FRAMES_PER_DRIVE, subjects - first)):
            image, mask, lanes = draw_frame(street, number / 10, np.random.default_rng([seed, drive, number]))
            name = f"drive{drive:03d}_{number * NUMBERS_PER_FRAME:06d}.png"
            Image.fromarray(image).save(folder / "images" / name, compress_level=1)
            Image.fromarray(mask).save(folder / "masks" / name)
            lines.append(json.dumps({"frame": number, "lanes": lanes, "h_samples": list(LANE_SAMPLES)}))
        (folder / "images" / f"drive{drive:03d}.lanes.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(ROAD_CLASSES)))
    text = f"namespace: drives-{seed}\nlicence: generated\norigin: selfsight, no road behind it\n"
    (folder / "dataset.yaml").write_text(text)


def draw_frame(
    street: Street, seconds: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[list[float]]]:
    """What the camera sees after so many seconds of driving.

    Returns:
        (H, W, 3) uint8 frame; (H, W) uint8 classes; x in pixels of the two lines of the own lane at `LANE_SAMPLES`, -2
        where there is none.
    """
    canvas, ahead = _Canvas(), street.speed_m_per_s * seconds
    height, width = SIZE
    canvas.polygon("Sky", [(0, 0), (width, 0), (width, height), (0, height)], street.sky)
    _ground(canvas, street, "Pavement", -60.0, 60.0, (96, 104, 84))
    _ground(canvas, street, "Pavement", -LANE_M - PAVEMENT_M, LANE_M + PAVEMENT_M, (150, 145, 140))
    _ground(canvas, street, "Road", -LANE_M, LANE_M, (84, 84, 88))
    for at in (-LANE_M + 0.15, LANE_M - 0.15):
        _ground(canvas, street, "Road", at - 0.08, at + 0.08, (225, 225, 220))
    for dash in np.arange(-(ahead % 6.0), FARTHEST_M, 6.0):
        _ground(canvas, street, "Road", -0.08, 0.08, (225, 225, 220), dash, dash + 3.0)
    things = [(thing.z_m - ahead + thing.speed_m_per_s * seconds, thing) for thing in street.things]
    for distance, thing in sorted(things, key=lambda pair: -pair[0]):
        if NEAREST_M < distance < FARTHEST_M:
            _stand(canvas, street, thing, distance)
    noise = 6 * street.texture + draw.normal(0, 4, SIZE)
    image = (np.asarray(canvas.image) * street.light + noise[..., None]).clip(0, 255).astype(np.uint8)
    lanes = [_line(street, x) for x in (0.0, LANE_M - 0.15)]
    return image, np.asarray(canvas.mask).copy(), lanes


def _street(draw: np.random.Generator) -> Street:
    things = []
    for side in (-1, 1):
        z = float(draw.uniform(4, 8))
        while z < 160:
            kind = str(draw.choice(["Building", "Building", "Tree", "Fence"]))
            wide = float(draw.uniform(5, 12))
            tall = {"Building": draw.uniform(6, 14), "Tree": draw.uniform(4, 7), "Fence": 1.2}[kind]
            colour = {"Building": draw.integers(70, 190, 3), "Tree": draw.integers((30, 80, 20), (70, 130, 50)),
                      "Fence": draw.integers(90, 130, 3)}[kind]  # fmt: skip
            left = side * (LANE_M + PAVEMENT_M + draw.uniform(0.3, 2)) - (wide if side < 0 else 0)
            things.append(Thing(kind, float(left), z, wide, float(tall), _colour(colour)))
            z += float(draw.uniform(4, 9))
        for z in draw.uniform(6, 160, 6):
            at = side * (LANE_M + draw.uniform(0.4, 1.6))
            kind, wide, tall = [("Pole", 0.14, 5.0), ("Pedestrian", 0.5, 1.7), ("Bicyclist", 0.7, 1.7)][
                draw.integers(3)
            ]
            things.append(Thing(kind, float(at), float(z), wide, tall, _colour(draw.integers(40, 200, 3))))
            if kind == "Pole":
                things.append(
                    Thing("SignSymbol", float(at) - 0.3, float(z) - 0.01, 0.8, 0.8, (200, 40, 40), lift_m=2.4)
                )
    speed = float(draw.uniform(6, 14))
    for lane in (-1, 1):  # the others come towards the camera on the left, and drive ahead on the right
        for z in draw.uniform(7, 70, 3):
            pace = -speed * 0.6 if lane < 0 else speed * draw.uniform(0.8, 1.1)
            left = lane * LANE_M / 2 - 0.9 + draw.uniform(-0.3, 0.3)
            things.append(
                Thing("Car", float(left), float(z), 1.8, 1.5, _colour(draw.integers(20, 220, 3)), float(pace))
            )
    light = float(draw.uniform(0.55, 1.1))
    texture = ndimage.gaussian_filter(draw.normal(0, 1, SIZE), (1.2, 2.5))
    sky = _colour(draw.integers((120, 150, 180), (190, 210, 245)))
    bend = float(draw.uniform(-0.0015, 0.0015))
    return Street(tuple(things), speed, bend, light, sky, (texture / texture.std()).astype(np.float32))


def _colour(values: Any) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _seen(street: Street, x_m: float, up_m: float, z_m: float) -> Point:
    """Pixel (x, y) of a point; the camera drives in the middle of the right lane, the horizon lies in the middle."""
    across = x_m - LANE_M / 2 + street.bend * z_m**2
    return SIZE[1] / 2 + FOCAL * across / z_m, SIZE[0] / 2 + FOCAL * (CAMERA_HEIGHT_M - up_m) / z_m


def _ground(
    canvas: _Canvas, street: Street, kind: str, left_m: float, right_m: float, colour: tuple[int, int, int],
    near_m: float = NEAREST_M, far_m: float = FARTHEST_M,
) -> None:  # fmt: skip
    """A strip along the road; nothing where it lies behind the camera."""
    near_m, far_m = max(near_m, NEAREST_M), min(far_m, FARTHEST_M)
    if far_m > near_m:
        steps = np.geomspace(near_m, far_m, 12).tolist()
        sides = [_seen(street, left_m, 0, z) for z in steps] + [_seen(street, right_m, 0, z) for z in reversed(steps)]
        canvas.polygon(kind, sides, colour)


def _stand(canvas: _Canvas, street: Street, thing: Thing, distance_m: float) -> None:
    left, bottom = _seen(street, thing.x_m, thing.lift_m, distance_m)
    right, top = _seen(street, thing.x_m + thing.width_m, thing.lift_m + thing.height_m, distance_m)
    canvas.polygon(thing.kind, [(left, bottom), (right, bottom), (right, top), (left, top)], thing.colour)
    size = right - left
    if thing.kind == "Building" and size > 16:  # windows
        dark = _colour(np.array(thing.colour) * 0.5)
        for x in np.arange(left + size / 10, right - size / 10, size / 5):
            for y in np.arange(top + size / 10, bottom - size / 5, size / 4):
                canvas.polygon(
                    "Building", [(x, y), (x + size / 10, y), (x + size / 10, y + size / 8), (x, y + size / 8)], dark
                )
    if thing.kind == "Car" and size > 6:  # rear window and lights
        y, h = top + 0.15 * (bottom - top), 0.3 * (bottom - top)
        canvas.polygon(
            "Car",
            [(left + size / 6, y), (right - size / 6, y), (right - size / 6, y + h), (left + size / 6, y + h)],
            (30, 35, 45),
        )
        for x in (left + size / 20, right - size / 5):
            canvas.polygon(
                "Car",
                [(x, y + 1.5 * h), (x + size / 7, y + 1.5 * h), (x + size / 7, y + 2 * h), (x, y + 2 * h)],
                (190, 30, 30),
            )


def _line(street: Street, x_m: float) -> list[float]:
    """x in pixels of a line along the road at `LANE_SAMPLES`; -2 outside the picture."""
    found = []
    for row in LANE_SAMPLES:
        x, _ = _seen(street, x_m, 0, FOCAL * CAMERA_HEIGHT_M / (row - SIZE[0] / 2))
        found.append(round(x, 1) if 0 <= x < SIZE[1] else -2.0)
    return found
