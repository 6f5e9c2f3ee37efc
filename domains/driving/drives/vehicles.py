"""How cars, vans and trucks look from behind, from the front and from the side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from domains.driving.drives.sprites import Sheet, Sprite

PAINTS = np.array([
    (235, 235, 232), (200, 202, 205), (150, 153, 158), (95, 98, 104), (30, 31, 34), (18, 18, 20), (60, 75, 110),
    (150, 25, 28), (110, 20, 25), (40, 70, 60), (190, 175, 140), (205, 165, 40),
], np.float32)  # fmt: skip
PAINT_SHARES = np.array([5, 4, 4, 4, 4, 3, 3, 2, 1, 1, 1, 0.4])
GLASS, RUBBER, DARK = (38, 46, 56), (22, 22, 24), (30, 30, 32)
SIDE = 128
"""Pixels of a car's width; of a truck's too."""


@dataclass(frozen=True)
class Vehicle:
    """Size in metres, and a picture of each side; a vehicle seen from the left is the mirror of one from the right."""

    width_m: float
    height_m: float
    length_m: float
    rear: Sprite
    front: Sprite
    side: Sprite
    """Its front to the right."""
    mirrored: Sprite
    """Its front to the left."""
    lamps_up_m: float


def car(draw: np.random.Generator) -> Vehicle:
    """A saloon, hatchback, estate, off-roader or small van."""
    height, length, roof, waist = [
        (1.44, 4.6, 0.62, 0.50), (1.48, 4.0, 0.70, 0.48), (1.70, 4.5, 0.80, 0.46), (1.95, 4.9, 0.88, 0.44),
    ][draw.choice(4, p=[0.35, 0.3, 0.22, 0.13])]  # fmt: skip
    paint = PAINTS[draw.choice(len(PAINTS), p=PAINT_SHARES / PAINT_SHARES.sum())] + draw.normal(0, 5, 3)
    width = float(draw.uniform(1.72, 1.9))
    rear, front = (_car_face(draw, paint, height / width, roof, waist, front) for front in (False, True))
    side = _car_side(paint, height / length, height, roof, waist)
    return _vehicle(width, height, length, rear, front, side, lamps_up_m=0.75)


def truck(draw: np.random.Generator) -> Vehicle:
    """A lorry, delivery van or bus with square sides."""
    height, length = [(3.9, 13.0), (3.4, 8.0), (2.7, 6.0), (3.1, 11.5)][draw.integers(4)]
    width = 2.5 if height > 3 else 2.1
    box = PAINTS[draw.choice(len(PAINTS))] * 0.6 + 90
    cab = PAINTS[draw.choice(len(PAINTS))]
    rear, front = _truck_rear(draw, box, height / width), _truck_front(cab, box, height / width)
    side = _truck_side(draw, box, cab, height, length)
    return _vehicle(width, height, length, rear, front, side, lamps_up_m=1.0)


def _vehicle(
    width: float, height: float, length: float, rear: Sheet, front: Sheet, side: Sheet, lamps_up_m: float
) -> Vehicle:
    return Vehicle(width, height, length, rear.sprite(), front.sprite(), side.sprite(), side.sprite(-1), lamps_up_m)


def _car_face(draw: np.random.Generator, paint: Any, aspect: float, roof: float, waist: float, front: bool) -> Sheet:
    sheet, bright = Sheet(aspect, SIDE), paint + 25
    inset = (1 - roof) / 2
    for x in (0.06, 0.80):
        sheet.rectangle(x, 0.74, 0.14, 0.26, RUBBER)
    sheet.rectangle(0.05, 0.70, 0.90, 0.20, DARK)
    sheet.polygon([(inset, 0.02), (1 - inset, 0.02), (0.94, waist), (0.06, waist)], bright, 0.15)
    sheet.polygon([(0.06, waist - 0.04), (0.94, waist - 0.04), (1, waist + 0.1), (1, 0.74), (0.96, 0.86), (0.04, 0.86),
                   (0, 0.74), (0, waist + 0.1)], paint, 0.45)  # fmt: skip
    glass = [(inset + 0.05, 0.08), (1 - inset - 0.05, 0.08), (0.87, waist - 0.04), (0.13, waist - 0.04)]
    sheet.polygon(glass, GLASS)
    sheet.polygon([glass[0], glass[1], (0.80, 0.22), (0.20, 0.22)], (96, 112, 128), 0.4)
    lamp = waist + 0.10
    if front:
        sheet.rectangle(0.28, lamp, 0.44, 0.12, DARK)
        for x in (0.04, 0.76):
            sheet.rectangle(x, lamp, 0.20, 0.10, (225, 230, 235), 0.2)
        sheet.rectangle(0.12, 0.76, 0.76, 0.06, DARK)
    else:
        for x in (0.02, 0.82):
            sheet.rectangle(x, lamp - 0.02, 0.16, 0.13, (165, 20, 22), 0.3)
            sheet.rectangle(x + 0.03, lamp + 0.07, 0.10, 0.03, (225, 120, 90))
        sheet.rectangle(0.10, 0.74, 0.80, 0.08, np.maximum(paint * 0.55, 20))
    plate = (228, 200, 60) if not front and draw.random() < 0.3 else (225, 225, 222)
    sheet.rectangle(0.36, 0.68 if front else lamp + 0.02, 0.28, 0.08, plate)
    return sheet


def _car_side(paint: Any, aspect: float, height: float, roof: float, waist: float) -> Sheet:
    sheet = Sheet(aspect, round(SIDE * 2.2))
    back = 0.03 if roof > 0.75 else 0.14 if roof < 0.65 else 0.06
    sheet.polygon([(back + 0.08, 0.03), (0.58, 0.03), (0.74, waist), (back - 0.02, waist)], paint + 20, 0.15)
    sheet.polygon([(0.01, waist), (0.74, waist - 0.02), (0.96, waist + 0.10), (1, 0.66), (0.98, 0.84), (0.01, 0.84),
                   (0, 0.6)], paint, 0.5)  # fmt: skip
    for left, right in ((back + 0.09, 0.36), (0.385, 0.57)):
        slope = 0.06 if right > 0.5 else 0.0
        lean = 0.04 if left < 0.3 else 0.0
        sheet.polygon([(left, 0.10), (right, 0.10), (right + slope * 1.6, waist - 0.04), (left - lean, waist - 0.04)],
                      GLASS)  # fmt: skip
        sheet.rectangle(right - 0.005, waist, 0.006, 0.34, paint * 0.6)
    sheet.rectangle(0, waist + 0.06, 0.03, 0.12, (160, 20, 22))
    sheet.rectangle(0.965, waist + 0.12, 0.03, 0.09, (220, 225, 228))
    wheel = 0.32 / height
    for x in (0.19, 0.81):
        sheet.disc(x, 1 - wheel, wheel * 1.12, DARK)
        sheet.disc(x, 1 - wheel, wheel, RUBBER)
        sheet.disc(x, 1 - wheel, wheel * 0.6, (140, 142, 146))
        sheet.disc(x, 1 - wheel, wheel * 0.2, (80, 82, 84))
    return sheet


def _truck_rear(draw: np.random.Generator, box: Any, aspect: float) -> Sheet:
    sheet = Sheet(aspect, SIDE)
    for x in (0.08, 0.72):
        sheet.rectangle(x, 0.84, 0.20, 0.16, RUBBER)
    sheet.rectangle(0.04, 0.80, 0.92, 0.10, DARK)
    sheet.rectangle(0, 0.0, 1, 0.82, box, 0.2)
    sheet.rectangle(0.02, 0.015, 0.96, 0.78, box * 0.92, 0.15)
    sheet.rectangle(0.495, 0.015, 0.012, 0.78, box * 0.5)
    for x in (0.30, 0.68):
        sheet.rectangle(x, 0.1, 0.015, 0.66, box * 0.65)
    if draw.random() < 0.5:
        logo = draw.integers(20, 220, 3)
        sheet.rectangle(0.15, draw.uniform(0.2, 0.4), 0.7, draw.uniform(0.05, 0.2), logo)
    for k in range(8):
        sheet.rectangle(k / 8, 0.80, 1 / 8, 0.025, (200, 30, 30) if k % 2 else (235, 235, 235))
    for x in (0.03, 0.85):
        sheet.rectangle(x, 0.835, 0.12, 0.035, (170, 20, 22))
    sheet.rectangle(0.4, 0.84, 0.2, 0.03, (225, 225, 222))
    return sheet


def _truck_front(cab: Any, box: Any, aspect: float) -> Sheet:
    sheet = Sheet(aspect, SIDE)
    for x in (0.05, 0.75):
        sheet.rectangle(x, 0.84, 0.20, 0.16, RUBBER)
    sheet.rectangle(0, 0, 1, 0.3, box, 0.1)
    sheet.rectangle(0.02, 0.18, 0.96, 0.74, cab, 0.4)
    sheet.polygon([(0.06, 0.28), (0.94, 0.28), (0.96, 0.56), (0.04, 0.56)], GLASS)
    sheet.polygon([(0.06, 0.28), (0.94, 0.28), (0.90, 0.36), (0.10, 0.36)], (100, 116, 130), 0.4)
    for y in (0.62, 0.68, 0.74):
        sheet.rectangle(0.22, y, 0.56, 0.025, DARK)
    for x in (0.04, 0.80):
        sheet.rectangle(x, 0.80, 0.16, 0.05, (225, 230, 235))
    sheet.rectangle(0.38, 0.84, 0.24, 0.035, (225, 225, 222))
    return sheet


def _truck_side(draw: np.random.Generator, box: Any, cab: Any, height: float, length: float) -> Sheet:
    sheet = Sheet(height / length, round(SIDE * 3))
    long = 1 - 2.2 / length
    sheet.rectangle(0.02, 0.76, 0.96, 0.12, DARK)
    sheet.rectangle(0, 0, long - 0.01, 0.78, box, 0.2)
    for x in np.arange(0.05, long, 0.08):
        sheet.rectangle(x, 0.02, 0.003, 0.74, box * 0.85)
    if draw.random() < 0.6:
        sheet.rectangle(0.1, 0.25, long - 0.25, draw.uniform(0.1, 0.3), draw.integers(20, 220, 3))
    sheet.polygon([(long + 0.005, 0.16), (0.985, 0.2), (1, 0.55), (1, 0.88), (long + 0.005, 0.88)], cab, 0.35)
    sheet.polygon([(long + 0.02, 0.26), (0.98, 0.28), (0.99, 0.5), (long + 0.02, 0.5)], GLASS)
    wheel = 0.5 / height
    for x in (0.12, 0.12 + 1.3 / length, 1 - 1.2 / length):
        sheet.disc(x, 1 - wheel, wheel, RUBBER)
        sheet.disc(x, 1 - wheel, wheel * 0.5, (150, 150, 150))
    return sheet
