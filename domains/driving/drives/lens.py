"""From the light of a scene to a dashcam's picture: lamps that dazzle, a wet road, drops, sun, blur, noise, bonnet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from domains.driving.classes import ROAD_CLASSES, VOID
from domains.driving.drives.road import View
from domains.driving.drives.scene import Scene
from domains.driving.drives.sprites import Canvas

RED, WHITE = np.array((255, 42, 26), np.float32), np.array((255, 246, 220), np.float32)
NOISE_SHIFT = 64


@dataclass(frozen=True)
class Lamp:
    """A light of a vehicle in the picture."""

    x: float
    y: float
    z_m: float
    white: bool
    owner: int


def through_lens(scene: Scene, view: View, canvas: Canvas, lamps: list[Lamp], seconds: float) -> np.ndarray:
    """(H, W, 3) uint8, and the bonnet put into the canvas's classes and owners."""
    image, weather = canvas.image, scene.weather
    draw = np.random.default_rng(round(seconds * 1000))
    if weather.wet:
        _reflect(image, canvas, view.horizon, weather.wet)
    for lamp in lamps:
        _dazzle(image, canvas, lamp, scene)
    if weather.glare:
        _sun(image, scene, view)
    if weather.rain:
        image = _rain(image, weather.rain, draw)
    _bonnet(image, canvas, scene)
    if weather.rain or weather.night:
        image = cv2.GaussianBlur(image, (3, 3), 0.7)
    top, left = draw.integers(NOISE_SHIFT, size=2)
    height, width = image.shape[:2]
    flash = scene.flash[top : top + height, left : left + width]
    return np.clip(image + weather.noise * flash[..., None], 0, 255).astype(np.uint8)


def _reflect(image: np.ndarray, canvas: Canvas, horizon: float, wet: float) -> None:
    """The road mirrors what stands above the horizon, drawn out downwards; more so where it is seen flatter."""
    first = int(np.ceil(horizon))
    rows = np.arange(first, image.shape[0])
    mirrored = cv2.blur(image[np.clip(2 * first - rows, 0, first)], (3, 11))
    share = (0.45 * wet / (1 + (rows - first) / (0.12 * image.shape[0])))[:, None, None]
    road = (canvas.classes[first:] == ROAD_CLASSES.index("Road"))[..., None]
    image[first:] += np.where(road, share * (mirrored - image[first:]), 0).astype(np.float32)


def _dazzle(image: np.ndarray, canvas: Canvas, lamp: Lamp, scene: Scene) -> None:
    """Adds the halo of a lamp that nothing hides, and on a wet road its streak."""
    height, width = image.shape[:2]
    x, y = int(lamp.x), int(lamp.y)
    if not (0 <= x < width and 0 <= y < height) or canvas.owners[y, x] != lamp.owner:
        return
    size = scene.camera.focal_pixels / lamp.z_m
    strength = (1.6 if lamp.white else 0.8) * (1.0 if scene.weather.night else 0.35)
    radius = max(1.5, size * (0.32 if lamp.white else 0.16)) + (width / 160 if lamp.white else width / 320)
    colour = (WHITE if lamp.white else RED) * strength
    _add(image, _halo(), x, y, 2.4 * radius, 2.4 * radius, colour)
    if scene.weather.wet:
        ground = y + 0.75 * size
        _add(image, _halo(), x, ground + 1.8 * size, 0.5 * radius + 1, 2.4 * size + 3, 0.35 * colour)


@cache
def _halo() -> np.ndarray:
    rows, columns = np.mgrid[:65, :65] / 32 - 1
    away = np.hypot(rows, columns)
    return (np.clip(1 - away, 0, 1) ** 2 * (0.25 + np.exp(-np.square(away / 0.22)))).astype(np.float32)


def _add(image: np.ndarray, shape: np.ndarray, x: float, y: float, half_x: float, half_y: float, colour: np.ndarray) \
        -> None:  # fmt: skip
    """Adds a shape of light, stretched around a place."""
    height, width = image.shape[:2]
    left, right, top, bottom = round(x - half_x), round(x + half_x) + 1, round(y - half_y), round(y + half_y) + 1
    scaled = cv2.resize(shape, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    rows, columns = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    inside = scaled[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    if inside.size and rows.stop > rows.start and columns.stop > columns.start:
        image[rows, columns] += inside[..., None] * colour


def _sun(image: np.ndarray, scene: Scene, view: View) -> None:
    """A low sun near the road's beginning direction: a disc, a veil over everything, and glitter on the road."""
    height, width = image.shape[:2]
    x = width * (0.5 + 0.18 * scene.weather.sun_side) - scene.camera.focal_pixels * view.heading
    y = view.horizon - 0.16 * height
    warm = np.array((255, 226, 176), np.float32) * scene.weather.glare
    image *= 1 - 0.15 * scene.weather.glare
    if -width < x < 2 * width:
        _add(image, _halo(), x, y, 0.9 * width, 0.9 * width, 0.55 * warm)
        _add(image, _halo(), x, y, 0.14 * width, 0.14 * width, 1.4 * warm)
        _add(image, _halo(), x, view.horizon + 0.25 * height, 0.12 * width, 0.5 * height, 0.35 * warm)


def _rain(image: np.ndarray, rain: float, draw: np.random.Generator) -> np.ndarray:
    """Streaks in the air, and drops on the windscreen through which everything is blurred."""
    height, width = image.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    for _ in range(int(rain * width / 4)):
        x, y, long = draw.uniform(0, width), draw.uniform(-10, height), draw.uniform(0.02, 0.07) * height
        lean = 0.25 * (x / width - 0.5) * long
        cv2.line(streaks, (int(x), int(y)), (int(x + lean), int(y + long)), float(draw.uniform(0.1, 0.5)), 1)
    drops = np.zeros((height, width), np.float32)
    for x, y, r in draw.uniform((0, 0, 0.006), (width, height, 0.022), (int(14 * rain), 3)):
        cv2.ellipse(drops, (int(x), int(y)), (int(r * width) + 1, int(1.3 * r * width) + 1), 0, 0, 360, 1.0, -1)
    wet = cv2.GaussianBlur(drops, (0, 0), width / 300)[..., None]
    soft = cv2.blur(image, (width // 20, width // 20))
    veil = 0.10 * rain
    image = image * (1 - veil) + soft * veil
    image += wet * (0.75 * (soft * 1.06 - image))
    bright = cv2.GaussianBlur(streaks, (3, 3), 0.6)[..., None] * (40 + 0.25 * soft)
    mixed: np.ndarray = image + 0.6 * bright
    return mixed


def _bonnet(image: np.ndarray, canvas: Canvas, scene: Scene) -> None:
    """The own car's bonnet at the lower edge: no class, no owner."""
    if not scene.bonnet:
        return
    height, width = image.shape[:2]
    side = np.abs(np.linspace(-1, 1, width))
    top = height * (1 - scene.bonnet * (1 - 0.55 * side**2.5))
    rows = np.arange(height)[:, None]
    cover = np.clip(rows + 0.5 - top, 0, 1)
    down = np.clip((rows - top) / (scene.bonnet * height), 0, 1)
    shade = (70 * (1 - down) ** 2 + 24)[..., None] * (np.asarray(scene.weather.ambient) + 0.02)
    image += (cover[..., None] * (shade - image)).astype(np.float32)
    canvas.classes[cover > 0.5] = VOID
    canvas.owners[cover > 0.5] = -1
