"""The road painter: lane lines that run to a vanishing point, or cars and people on the road, painted into frames.

What is painted is what the recipe's classes are called: lanes where they are lanes, else objects. Its label marks the
paint and nothing else. Lanes and cars that the camera has seen itself have no label: before lanes are painted, thin
bright strips are rubbed out, and so stay background; cars cannot be, and are the noise that this objective has.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from domains.driving.classes import CLASSES
from domains.driving.drives import roadside
from domains.driving.drives.sprites import Canvas, Sprite
from domains.driving.drives.vehicles import car, truck
from domains.driving.recipes import settings
from domains.manifest import Contract
from domains.recipe import Recipe
from ssl_models.protocols import Painter

# From general knowledge of dashcams and by eye on generated and unlabelled frames; no figure was optimised on a label.
VANISHING_X, VANISHING_Y = 0.12, (0.30, 0.58)
"""Standard deviation of the vanishing point's place across around the middle, and limits of its height, as shares."""
CLEAN_CHANCE = 0.1
"""Share of crops into which nothing is painted."""
LINES, APART, WIDE = (2, 5), (0.35, 1.1), (0.015, 0.05)
"""Lane lines; between two of them and of one the width, at the lower edge, in widths of the crop."""
BEND = 0.008
"""Standard deviation of how much lines bend, in widths of the crop; the bend grows as the distance does."""
NEAREST_ROW = 0.06
"""Of the way down from the vanishing point, where lines begin."""
DASHED_CHANCE, PAINTED, PERIOD = 0.55, (0.25, 0.6), (0.7, 2.0)
"""Share of a dash; length of a period in heights of the camera, times a lens factor of about 4."""
GAIN, ADDED = (1.25, 2.2), (15.0, 60.0)
"""How much brighter than what it covers paint is: a factor, and 0..255 on top of it."""
YELLOW_CHANCE, YELLOW = 0.3, (1.0, 0.78, 0.35)
OPACITY, WORN_CHANCE = (0.6, 1.0), 0.4
RUBBED, BRIGHTER, BANDS = 0.07, 12.0, 8
"""Strips thinner than this at the lower edge, in widths of the crop, and brighter than what is beside them by this, in
0..255, are rubbed out; how thin is told in so many bands."""
ROAD = 0.8
"""Half of the road's width at the lower edge, generously, in widths of the crop."""
OBJECTS, DONOR_CHANCE = (1, 4), 0.3
"""Objects; the chance that one is cut out of the crop of the row it is paired with (0 and 1, 2 and 3, ...)."""
CAR_HEIGHT, PERSON_HEIGHT = (0.9, 1.5), (1.1, 1.4)
"""In heights of the camera, which is as high as the vanishing point is above an object's foot."""
LIGHT = (0.45, 1.15)

_STREAM = 0x0B5E_55ED


def make_painter(contract: Contract, recipe: Recipe) -> Painter:
    """The painter for crops of frames of this contract."""
    rules = contract.rules
    lanes = settings(recipe).label_classes == CLASSES["lanes"]
    return RoadPainter(lanes, tuple(rules["colour_mean"]), tuple(rules["colour_deviation"]))


@dataclass(frozen=True)
class RoadPainter:
    """Paints lanes or objects into each crop of a frame, by its own seed; clips it does not know."""

    lanes: bool
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    """Of the colours in 0..1, by which crops are normalised."""

    def __call__(
        self, crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, sample_seed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W), -, -, (B,) -> painted crops (B, 3, H, W), labels (B, 1, H, W) int64 in {0, 1}."""
        scale, shift = (np.asarray(part, np.float32) * 255 for part in (self.deviation, self.mean))
        frames = crops.permute(0, 2, 3, 1).cpu().numpy() * scale + shift
        painted, labels = [], []
        for row, seed in enumerate(sample_seed.tolist()):
            draw = np.random.default_rng([seed, _STREAM])
            donor = frames[min(row ^ 1, len(frames) - 1)]
            frame, label = self._paint(frames[row], donor, draw)
            painted.append((frame - shift) / scale)
            labels.append(label)
        images = torch.from_numpy(np.stack(painted)).permute(0, 3, 1, 2)
        return images.to(crops), torch.from_numpy(np.stack(labels))[:, None].to(crops.device, torch.int64)

    def _paint(self, frame: np.ndarray, donor: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = frame.shape[:2]
        across = width * (0.5 + float(np.clip(draw.normal(0, VANISHING_X), -0.4, 0.4)))
        down = height * float(draw.uniform(*VANISHING_Y))
        clean = draw.random() < CLEAN_CHANCE
        if self.lanes:
            frame = without_strips(frame, across, round(down))
        if clean:
            return frame, np.zeros((height, width), bool)
        return paint_lanes(frame, across, down, draw) if self.lanes else paint_objects(frame, donor, down, draw)


def without_strips(frame: np.ndarray, across: float, down: int) -> np.ndarray:
    """The frame (H, W, 3) without thin bright strips on what may be road, below the vanishing point.

    Each band of rows is opened by a window as wide as a line could be there.
    """
    rubbed, columns = frame.copy(), np.arange(frame.shape[1])
    edges = np.linspace(down, len(frame), BANDS + 1).round().astype(int).tolist()
    for number, (top, low) in enumerate(itertools.pairwise(edges), 1):
        share, band = number / BANDS, np.ascontiguousarray(frame[top:low])
        opened = cv2.morphologyEx(
            band, cv2.MORPH_OPEN, np.ones((1, 3 + round(RUBBED * len(columns) * share)), np.uint8)
        )
        strip = cv2.dilate(((band - opened).mean(-1) > BRIGHTER).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        road = np.abs(columns - across) < ROAD * len(columns) * share
        rubbed[top:low] = np.where((strip & road)[..., None], opened, band)
    return rubbed


def paint_lanes(
    frame: np.ndarray, across: float, down: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The frame (H, W, 3) 0..255 with lines to the vanishing point (across, down), and where they are (H, W) bool."""
    height, width = frame.shape[:2]
    share = np.maximum((np.arange(height) + 0.5 - down) / (height - down), 1e-3)[:, None]
    far = 1 / share
    bend = width * draw.normal(0, BEND) * (far - 1)
    columns = np.arange(width) + 0.5
    apart = width * draw.uniform(*APART)
    first = across + draw.uniform(-0.8, -0.2) * apart
    place = first + apart * (np.arange(draw.integers(LINES[0], LINES[1] + 1)) - draw.integers(0, 3))
    cover = np.zeros((height, width))
    colour = np.zeros((height, width, 3))
    around = cv2.blur(frame, (max(3, width // 20), 3))
    gain, added = draw.uniform(*GAIN), draw.uniform(*ADDED)
    for at in place:
        wide = width * draw.uniform(*WIDE) * share
        middle = across + (at - across) * share + bend
        line = np.clip((wide / 2 - np.abs(columns - middle)) + 0.5, 0, 1) * np.minimum(1, wide)
        if draw.random() < DASHED_CHANCE:
            period, painted = draw.uniform(*PERIOD), draw.uniform(*PAINTED)
            line = line * (np.mod(far / period + draw.random(), 1) < painted)
        line = line * (share >= NEAREST_ROW) * draw.uniform(*OPACITY)
        tint = np.array(YELLOW if draw.random() < YELLOW_CHANCE else (1.0, 1.0, 1.0))
        colour = np.where((line > cover)[..., None], (around * gain + added) * tint, colour)
        cover = np.maximum(cover, line)
    if draw.random() < WORN_CHANCE:
        noise = cv2.resize(draw.normal(0, 1, (height // 3, width // 3)), (width, height))
        cover = cover * np.clip(1.1 - 0.6 * noise, 0, 1)
    # only the smooth part of the road is replaced: its grain stays, else paint would be told by having none
    lit: np.ndarray = np.clip(frame + cover[..., None] * (colour - around), 0, 255)
    return lit.astype(np.float32), cover > 0.3


def paint_objects(
    frame: np.ndarray, donor: np.ndarray, down: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The frame (H, W, 3) 0..255 with objects that stand on the road below row `down`, and where they are."""
    height, width = frame.shape[:2]
    canvas = Canvas(
        frame.astype(np.float32), np.zeros((height, width), np.uint8), np.full((height, width), -1, np.int32)
    )
    near = draw.uniform(0.3, 1.0, draw.integers(OBJECTS[0], OBJECTS[1] + 1)) ** 2
    feet = np.sort(down + (height - down) * near)
    for foot in feet:
        sprite, aspect, tall = _object(donor, draw)
        tall *= foot - down
        middle, wide = draw.uniform(0, width), tall / aspect
        corners = np.array([(middle - wide / 2, foot - tall), (middle + wide / 2, foot - tall),
                            (middle + wide / 2, foot), (middle - wide / 2, foot)])  # fmt: skip
        level = float(draw.uniform(*LIGHT)) * min(1.2, 0.35 + frame.mean() / 130)
        canvas.paste(sprite, corners, (level, level, level), (0, 0, 0), 1, 1)
    return canvas.image, canvas.classes > 0


def _object(donor: np.ndarray, draw: np.random.Generator) -> tuple[Sprite, float, float]:
    """What stands there, its height as a share of its width, and in heights of the camera."""
    if draw.random() < DONOR_CHANCE:
        aspect = float(draw.uniform(0.7, 1.6))
        return _cut_out(donor, aspect, draw), aspect, float(draw.uniform(*CAR_HEIGHT))
    vehicles, people = _crowd()
    if draw.random() < 0.6:
        sprite, aspect, tall = vehicles[draw.integers(len(vehicles))]
        return sprite, aspect, tall * float(draw.uniform(0.9, 1.1))
    return people[draw.integers(len(people))], 2.8, float(draw.uniform(*PERSON_HEIGHT))


def _cut_out(donor: np.ndarray, aspect: float, draw: np.random.Generator) -> Sprite:
    """A patch of another crop with a rounded outline."""
    height, width = donor.shape[:2]
    wide = int(min(width, height / aspect) * draw.uniform(0.25, 0.6))
    tall = max(4, min(height, int(wide * aspect)))
    top, left = draw.integers(height - tall + 1), draw.integers(width - wide + 1)
    y, x = np.meshgrid(np.linspace(-1, 1, tall), np.linspace(-1, 1, wide), indexing="ij")
    inside = np.abs(x) ** 4 + np.abs(y) ** 4 < 0.9
    patch = np.clip(donor[top : top + tall, left : left + wide], 0, 255).astype(np.uint8)
    return Sprite.of(np.ascontiguousarray(patch), (255 * inside).astype(np.uint8))


@cache
def _crowd() -> tuple[tuple[tuple[Sprite, float, float], ...], tuple[Sprite, ...]]:
    """Sides of vehicles with height by width and height in camera's heights; people and cyclists."""
    draw = np.random.default_rng(_STREAM)
    sides = []
    for vehicle in [*(car(draw) for _ in range(16)), *(truck(draw) for _ in range(5))]:
        tall = vehicle.height_m / 1.4
        sides += [(face, vehicle.height_m / vehicle.width_m, tall) for face in (vehicle.rear, vehicle.front)]
        sides += [(vehicle.side, vehicle.height_m / vehicle.length_m, tall)]
    people = [
        make(draw, stride) for make in (roadside.person, roadside.cyclist) for stride in (0.1, 0.9) for _ in "1234"
    ]
    return tuple(sides), tuple(people)
