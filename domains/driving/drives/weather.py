"""Light and weather of a drive: what the sky, the sun, lamps, fog and rain do to colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domains.driving.drives.sprites import Tint


@dataclass(frozen=True)
class Weather:
    """One kind of light; colours are factors of those of things, or 0..255 where a colour is meant."""

    name: str
    ambient: Tint
    zenith: Tint
    """Colour of the sky above, 0..255."""
    haze: Tint
    """Colour of the sky at the horizon and of what is far away, 0..255."""
    haze_m: float
    """Distance at which 63 % of a thing's colour is gone."""
    clouds: float
    """0..1."""
    sun_side: int
    """-1: it stands to the left, 1: to the right; shadows fall to the other side."""
    shadow: float = 0.0
    """Share of the light that is missing in a shadow."""
    shadow_length: float = 1.0
    """Of a shadow across the road, in heights."""
    glare: float = 0.0
    """0..1, of a low sun ahead."""
    wet: float = 0.0
    rain: float = 0.0
    night: bool = False
    noise: float = 3.0
    """Standard deviation of the sensor's, in 0..255."""


SHARES = {"clear": 0.28, "overcast": 0.2, "low_sun": 0.12, "fog": 0.06, "rain": 0.14, "night": 0.14, "night_rain": 0.06}
"""Of the drives of an archive, in the long run."""


def weather(name: str, draw: np.random.Generator) -> Weather:
    """A weather of one of the names of `SHARES`."""
    side = int(draw.choice((-1, 1)))
    level = float(draw.uniform(0.85, 1.15))
    made = {
        "clear": lambda: Weather(
            name, _times((1.08, 1.03, 0.96), level), (88, 136, 206), (188, 208, 226), draw.uniform(250, 600),
            draw.uniform(0, 0.6), side, draw.uniform(0.45, 0.65), draw.uniform(0.5, 1.6), noise=2.0,
        ),
        "overcast": lambda: Weather(
            name, _times((0.84, 0.86, 0.89), level), (168, 174, 182), (202, 206, 210), draw.uniform(180, 400), 0.7,
            side,
        ),
        "low_sun": lambda: Weather(
            name, _times((0.86, 0.72, 0.56), level), (110, 132, 168), (250, 206, 150), draw.uniform(160, 300),
            draw.uniform(0.1, 0.5), side, draw.uniform(0.45, 0.6), draw.uniform(2, 3), glare=draw.uniform(0.5, 1.0),
        ),
        "fog": lambda: Weather(
            name, _times((0.80, 0.82, 0.84), level), (186, 190, 194), (190, 194, 197), draw.uniform(35, 70), 0.1, side,
        ),
        "rain": lambda: Weather(
            name, _times((0.60, 0.63, 0.68), level), (130, 137, 146), (160, 166, 172), draw.uniform(70, 150), 0.8, side,
            wet=draw.uniform(0.5, 1), rain=draw.uniform(0.4, 1), noise=3.0,
        ),
        "night": lambda: Weather(
            name, _times((0.075, 0.075, 0.10), level), (5, 6, 11), (26, 22, 20), 400.0, 0.2, side, night=True,
            noise=draw.uniform(2.5, 4.5),
        ),
        "night_rain": lambda: Weather(
            name, _times((0.08, 0.08, 0.10), level), (8, 8, 11), (30, 26, 24), 160.0, 0.3, side,
            wet=draw.uniform(0.6, 1), rain=draw.uniform(0.4, 0.9), night=True, noise=draw.uniform(3, 5),
        ),
    }  # fmt: skip
    return made[name]()


def _times(colour: Tint, level: float) -> Tint:
    red, green, blue = (float(c * level) for c in colour)
    return red, green, blue


def headlights(x_m: np.ndarray, z_m: np.ndarray) -> np.ndarray:
    """Light of the own low beam at places ahead, about 0..1.1: two cones that reach farther on the right."""
    near = np.clip((z_m - 1.5) / 4, 0, 1)
    reach = 26 + 10 * np.tanh(x_m / 4)
    return 1.15 * near * np.exp(-np.square(z_m / reach)) * np.exp(-np.square(x_m / (1.6 + 0.23 * z_m))) + 0.06 * np.exp(
        -np.square(z_m / 60)
    ) * np.exp(-np.square(x_m / (2 + 0.2 * z_m)))


def street_lamps(s_m: np.ndarray, d_m: np.ndarray, every_m: float, at_m: float) -> np.ndarray:
    """Light of lamps above one edge of the road, 0..1."""
    along = np.mod(s_m + every_m / 2, every_m) - every_m / 2
    light: np.ndarray = np.exp(-np.square(along / (0.3 * every_m))) * np.exp(-np.square((d_m - at_m) / 8))
    return light
