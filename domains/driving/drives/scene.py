"""Everything that one generated drive consists of, drawn from its seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from domains.driving.classes import ROAD_CLASSES
from domains.driving.drives import weather as weathers
from domains.driving.drives.layouts import KINDS, Layout, layout
from domains.driving.drives.motion import Motion, Plan, drive
from domains.driving.drives.road import START_M, Camera, Road
from domains.driving.drives.things import Thing, populate
from domains.driving.drives.weather import Weather

TEXTURE = 256
"""Side of a texture that repeats, in its pixels."""


@dataclass(frozen=True)
class Scene:
    """A drive: what is there, how the light is, and how the camera moves through it."""

    layout: Layout
    weather: Weather
    camera: Camera
    motion: Motion
    things: tuple[Thing, ...]
    textures: np.ndarray
    """(TEXTURE, TEXTURE, 2) float32 of deviation 1 that repeats: fine and coarse."""
    panorama: np.ndarray
    """(H, N, 3) float32 colours of sky and skyline above the horizon, all around."""
    panorama_classes: np.ndarray
    """(H, N) uint8."""
    shade_m: np.ndarray
    """(N,) how far shadows reach across the road from the sun's side, for each step of the road."""
    lamps_every_m: float
    """Street lamps; 0 for none."""
    bonnet: float
    """Height of the own car's bonnet in the picture, as a share; 0 where it is not seen."""
    flash: np.ndarray
    """(H + 64, W + 64) float32 noise of deviation 1, of which each frame shows another part."""

    @property
    def road(self) -> Road:
        return self.layout.road


def draw_scene(
    draw: np.random.Generator, shape: tuple[int, int], seconds: float, kind: str | None = None, light: str | None = None
) -> Scene:
    """A drive of so many seconds through a world of its own.

    Args:
        draw: gives every random number.
        shape: (H, W) of the frames.
        seconds: how long it lasts.
        kind: of road, one of `layouts.KINDS`; None draws it.
        light: one of `weather.SHARES`; None draws it.
    """
    kind = kind or str(draw.choice(list(KINDS), p=list(KINDS.values())))
    light = light or str(draw.choice(list(weathers.SHARES), p=list(weathers.SHARES.values())))
    made = layout(kind, 40 * seconds, draw)
    lane = int(draw.integers(len(made.own_lanes_m)))
    changes = len(made.own_lanes_m) > 1 and draw.random() < 0.45
    to = (lane + 1 if lane == 0 else lane - 1) if changes else lane
    stops = kind == "street" and not changes and bool(draw.random() < 0.3)
    plan = Plan(made.own_lanes_m[lane], made.own_lanes_m[to], made.speed_m_per_s, stops)
    motion = drive(made.road, plan, seconds, draw)
    weather = weathers.weather(light, draw)
    things = populate(made, lane, to, float(motion.s_m[-1]), draw)
    camera = Camera(shape, float(draw.uniform(0.8, 1.15)) * shape[1], float(draw.uniform(1.25, 1.6)),
                    float(draw.uniform(0.42, 0.54)))  # fmt: skip
    panorama, classes = _panorama(shape, kind, weather, draw)
    return Scene(
        layout=made,
        weather=weather,
        camera=camera,
        motion=motion,
        things=things,
        textures=np.stack([_texture(draw, 0.7), _texture(draw, 6.0)], axis=2),
        panorama=panorama,
        panorama_classes=classes,
        shade_m=_shade(things, made, weather),
        lamps_every_m=float(draw.uniform(26, 40)) if kind == "street" or draw.random() < 0.3 else 0.0,
        bonnet=float(draw.uniform(0.05, 0.12)) if draw.random() < 0.25 else 0.0,
        flash=draw.normal(0, 1, (shape[0] + 64, shape[1] + 64)).astype(np.float32),
    )


def _texture(draw: np.random.Generator, smooth: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(draw.normal(0, 1, (TEXTURE, TEXTURE)), smooth, mode="wrap")
    return (noise / noise.std()).astype(np.float32)


def _panorama(
    shape: tuple[int, int], kind: str, weather: Weather, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Colours and classes above the horizon; its last row is just above it."""
    height, width = shape[0], 4 * shape[1]
    up = np.linspace(1, 0, height)[:, None, None] ** 0.6
    sky = np.asarray(weather.haze) * (1 - up) + np.asarray(weather.zenith) * up + np.zeros((height, width, 3))
    clouds = ndimage.gaussian_filter(draw.normal(0, 1, (height, width)), (height / 40, width / 60), mode="wrap")
    cover = np.clip(clouds / clouds.std() - 1 + 1.6 * weather.clouds, 0, 1)[..., None] * weather.clouds
    bright = np.asarray(weather.haze) * 0.6 + (8 if weather.night else 100)
    sky = sky * (1 - cover) + bright * cover
    classes = np.full((height, width), ROAD_CLASSES.index("Sky"), np.uint8)
    for name, tall, colour, fade in (("Tree", 0.10, (70, 84, 70), 0.55), ("Tree", 0.06, (48, 62, 38), 0.25)):
        if kind == "street":
            name, colour = ("Building", (110, 104, 100)) if fade > 0.5 else (name, colour)
        rough, high = (10, 0.4) if name == "Building" else (1.0, 0.12)
        skyline = ndimage.gaussian_filter1d(draw.normal(0, 1, width), width / 50, mode="wrap")
        skyline = skyline / skyline.std() + high * _steps(draw, width, rough)
        reach = np.clip(tall * (0.55 + 0.3 * skyline), 0.01, 0.4) * height
        below = np.arange(height)[::-1, None] < reach
        light = np.asarray(colour) * np.asarray(weather.ambient) * (1 - fade) + np.asarray(weather.haze) * fade
        grain = 1 + 0.12 * ndimage.gaussian_filter(draw.normal(0, 1, (height, width)), 1.0)[..., None]
        sky = np.where(below[..., None], light * grain, sky)
        classes[below] = ROAD_CLASSES.index(name)
    return sky.astype(np.float32), classes


def _steps(draw: np.random.Generator, width: int, length: float) -> np.ndarray:
    """(width,) levels that last for about `length` pixels."""
    levels = np.repeat(draw.normal(0, 1, int(width / max(2, length)) + 2), max(2, int(length)))
    return np.resize(levels, width)


def _shade(things: tuple[Thing, ...], made: Layout, weather: Weather) -> np.ndarray:
    """What stands on the sun's side of the road throws its shadow straight across."""
    reach = np.zeros(len(made.road.curvature_per_m))
    for thing in things:
        if thing.kind in ("Building", "Tree", "Fence") and np.sign(thing.d_m) == weather.sun_side:
            long = thing.length_m or 0.6 * thing.width_m
            first = int(thing.s_m - (0 if thing.length_m else long / 2) - START_M)
            far = abs(thing.d_m) - thing.width_m / 2
            where = slice(max(0, first), max(1, first + round(long)))
            reach[where] = np.maximum(reach[where], thing.height_m * weather.shadow_length - far)
    return reach
