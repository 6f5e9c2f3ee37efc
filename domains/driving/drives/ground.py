"""The ground in front of the camera: strips, paint, wear, shadows and light, each pixel at its own place."""

from __future__ import annotations

import cv2
import numpy as np

from domains.driving.classes import ROAD_CLASSES
from domains.driving.drives.road import START_M, Line, View
from domains.driving.drives.scene import TEXTURE, Scene
from domains.driving.drives.weather import headlights, street_lamps

FINE_M, COARSE_M = 0.06, 0.25
"""Size of a texture's pixel on the ground."""
CROSSING_M, BAR_M = 3.0, 0.5


def draw_ground(scene: Scene, view: View, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (N, W, 3) float32 in 0..255 and classes (N, W) uint8 of rows (N,) below the horizon."""
    across, along, z, x = (part.astype(np.float32) for part in view.ground(rows))
    wide = z / scene.camera.focal_pixels
    long = z * wide / scene.camera.height_m
    near = np.clip(0.25 / np.maximum(0.02, long), 0, 1)
    fine, coarse = (_sampled(scene, k, across, along, size) for k, size in ((0, FINE_M), (1, COARSE_M)))
    colour, classes = _strips(scene, across, wide, fine * near, coarse)
    for line in scene.road.lines:
        cover = _across(across - line.at_m, line.width_m, wide)
        if line.dash_m:
            cover = cover * _dashes(along, *line.dash_m, long)
        _mix(colour, cover * _left_of(line, fine, coarse), line.colour)
    for begin in scene.road.crossings_m:
        _crossing(scene, colour, across, along, wide, long, begin)
    light = _light(scene, across, along, x, z, coarse)
    fog = np.exp(-z / scene.weather.haze_m)[..., None]
    colour *= light
    return colour * fog + np.asarray(scene.weather.haze, np.float32) * (1 - fog), classes


def _strips(
    scene: Scene, across: np.ndarray, wide: np.ndarray, fine: np.ndarray, coarse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    colour = np.zeros((*across.shape, 3), np.float32)
    classes = np.zeros(across.shape, np.uint8)
    grain = np.zeros_like(across)
    for strip in scene.road.strips:
        cover = _across(across - (strip.left_m + strip.right_m) / 2, strip.right_m - strip.left_m, wide)
        _mix(colour, cover, strip.colour)
        grain += cover * (strip.texture - grain)
        classes[cover > 0.5] = ROAD_CLASSES.index(strip.kind)
    lanes = scene.layout.own_lanes_m + scene.layout.other_lanes_m
    tracks = sum(np.exp(-np.square((np.abs(across - lane) - 0.8) / 0.35)) for lane in lanes)
    colour *= (1 + grain * (0.7 * fine + 0.45 * coarse) - 0.08 * (grain < 0.16) * tracks)[..., None]
    if scene.weather.wet:
        colour *= 1 - 0.35 * scene.weather.wet
    return colour, classes


def _light(
    scene: Scene, across: np.ndarray, along: np.ndarray, x: np.ndarray, z: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """(N, W, 3) factors of the colours."""
    weather = scene.weather
    light = np.asarray(weather.ambient, np.float32) * np.ones((*across.shape, 1), np.float32)
    if weather.shadow:
        index = np.clip((along - START_M).astype(np.int32), 0, len(scene.shade_m) - 1)
        reach = scene.shade_m[index].astype(np.float32) + 0.8 * coarse
        inside = np.clip((reach - np.abs(across - weather.sun_side * 60) + 60) / 0.8 + 0.5, 0, 1)
        light *= 1 - weather.shadow * inside[..., None]
    if weather.night:
        light += headlights(x, z)[..., None] * np.array((1.0, 0.97, 0.88), np.float32)
        if scene.lamps_every_m:
            at = scene.layout.walls_m[1]
            pools = street_lamps(along, across, scene.lamps_every_m, at)
            light += 0.42 * pools[..., None] * np.array((1.0, 0.78, 0.48), np.float32)
    return light


def _crossing(
    scene: Scene, colour: np.ndarray, across: np.ndarray, along: np.ndarray, wide: np.ndarray, long: np.ndarray,
    begin: float,
) -> None:  # fmt: skip
    if along[-1].min() > begin + CROSSING_M or along[0].max() < begin:
        return
    left, right = scene.road.edges_m
    cover = _across(along - begin - CROSSING_M / 2, CROSSING_M, long)
    cover = (
        cover * _dashes(across, BAR_M, 2 * BAR_M, wide) * _across(across - (left + right) / 2, right - left - 0.6, wide)
    )
    _mix(colour, 0.85 * cover, (226, 226, 220))


def _left_of(line: Line, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Share of the paint that traffic has left at each place."""
    gone: np.ndarray = np.clip(0.9 * coarse + 0.5 * fine - 1.5 + 3 * line.wear, 0, 1)
    return 1 - line.wear * 0.3 - (0.7 + 0.3 * line.wear) * gone * min(1.0, 3 * line.wear)


def _across(off: np.ndarray, width: float, pixel: np.ndarray) -> np.ndarray:
    """Share of a pixel that a band of a width covers whose middle is `off` away."""
    cover: np.ndarray = np.clip((width / 2 - np.abs(off)) / pixel + 0.5, 0, 1) * np.minimum(1, width / pixel)
    return cover


def _dashes(along: np.ndarray, painted: float, period: float, pixel: np.ndarray) -> np.ndarray:
    """Share of a pixel that is painted where `painted` of every `period` is."""

    def until(place: np.ndarray) -> np.ndarray:
        whole = np.floor(place / period)
        done: np.ndarray = whole * painted + np.minimum(place - whole * period, painted)
        return done

    return (until(along + pixel / 2) - until(along - pixel / 2)) / pixel


def _sampled(scene: Scene, which: int, across: np.ndarray, along: np.ndarray, size_m: float) -> np.ndarray:
    columns, rows = (np.mod(place / size_m, TEXTURE) for place in (across, along))
    texture = np.ascontiguousarray(scene.textures[..., which])
    return cv2.remap(texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _mix(colour: np.ndarray, cover: np.ndarray, paint: tuple[float, float, float]) -> None:
    colour += cover[..., None] * (np.asarray(paint, np.float32) - colour)
