"""Kinds of road: how many lanes, what is painted, what lies beside them, and how they bend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domains.driving.drives.road import STEP_M, Colour, Line, Road, Strip

WHITE, YELLOW, TAR, JOINT = (236.0, 236.0, 230.0), (226.0, 172.0, 60.0), (38.0, 38.0, 40.0), (96.0, 94.0, 90.0)
KINDS = {"highway": 0.4, "country": 0.25, "street": 0.35}
"""Name -> share of the drives."""


@dataclass(frozen=True)
class Layout:
    """A road and the lanes on it."""

    name: str
    road: Road
    own_lanes_m: tuple[float, ...]
    """Middles of the lanes of the own direction, from left to right."""
    other_lanes_m: tuple[float, ...]
    """Of oncoming traffic."""
    parking_m: tuple[float, ...]
    """Middles of the strips where cars are parked."""
    walks_m: tuple[float, ...]
    """Middles of the pavements."""
    walls_m: tuple[float, float]
    """Where what stands beside the road begins, left and right."""
    speed_m_per_s: float


def layout(name: str, metres: float, draw: np.random.Generator) -> Layout:
    """A road of one of the names of `KINDS`, long enough for a drive of so many metres."""
    return {"highway": _highway, "country": _country, "street": _street}[name](metres, draw)


def _highway(metres: float, draw: np.random.Generator) -> Layout:
    lanes, wide = int(draw.integers(2, 5)), float(draw.uniform(3.5, 3.75))
    edge = lanes * wide / 2
    grey, concrete = _surface(draw)
    gap = float(draw.uniform(3, 7))
    other = (-edge - gap - 3 * wide, -edge - gap)
    verge = _verge(draw)
    strips = (
        verge, Strip("Road", *other, grey, 0.10), Strip("Road", -edge - 1.2, edge + 2.8, grey, 0.10),
    )  # fmt: skip
    at = np.linspace(-edge, edge, lanes + 1)
    left = YELLOW if draw.random() < 0.5 else WHITE
    dash = (3.0, float(draw.choice([9.0, 12.0])))
    lines = [_line(draw, at[0], left, None), _line(draw, at[-1], WHITE, None)]
    lines += [_line(draw, x, WHITE, dash) for x in at[1:-1]]
    lines += _seams(draw, at, concrete)
    road = Road(_bends(metres, 1 / 600, draw), strips, tuple(lines), (), (-edge - 1.2, edge + 2.8))
    middles = tuple(float(x) for x in (at[1:] + at[:-1]) / 2)
    others = tuple(other[0] + wide * (k + 0.5) for k in range(3))
    return Layout("highway", road, middles, others, (), (), (-edge - 1.9, edge + 3.4), float(draw.uniform(20, 32)))


def _country(metres: float, draw: np.random.Generator) -> Layout:
    wide = float(draw.uniform(3.1, 3.6))
    grey, concrete = _surface(draw)
    strips = (_verge(draw), Strip("Pavement", -wide - 1.1, wide + 1.1, (134, 124, 104), 0.2),
              Strip("Road", -wide - 0.4, wide + 0.4, grey, 0.12))  # fmt: skip
    lines = list(_middle(draw))
    if draw.random() < 0.8:
        lines += [_line(draw, x, WHITE, None) for x in (-wide, wide)]
    lines += _seams(draw, np.array([-wide, 0, wide]), concrete)
    road = Road(_bends(metres, 1 / 140, draw), strips, tuple(lines), (), (-wide - 0.4, wide + 0.4))
    return Layout(
        "country", road, (wide / 2,), (-wide / 2,), (), (), (-wide - 1.8, wide + 1.8), float(draw.uniform(12, 22))
    )


def _street(metres: float, draw: np.random.Generator) -> Layout:
    lanes, wide = int(draw.integers(1, 3)), float(draw.uniform(3.0, 3.5))
    park = 2.3 if draw.random() < 0.6 else 0.0
    kerb, walk = lanes * wide + park, float(draw.uniform(1.8, 3.5))
    grey, concrete = _surface(draw)
    paving = float(draw.uniform(110, 160))
    strips = (
        _verge(draw), Strip("Pavement", -kerb - walk, kerb + walk, (paving, 0.98 * paving, 0.93 * paving), 0.12),
        Strip("Pavement", -kerb - 0.18, kerb + 0.18, (172, 170, 164), 0.06), Strip("Road", -kerb, kerb, grey, 0.14),
    )  # fmt: skip
    lines = list(_middle(draw))
    for k in range(1, lanes):
        lines += [_line(draw, side * k * wide, WHITE, (2.5, 6.0)) for side in (-1, 1)]
    if park and draw.random() < 0.7:
        lines += [_line(draw, side * lanes * wide, WHITE, None) for side in (-1, 1)]
    lines += _seams(draw, np.linspace(-kerb, kerb, 5), concrete)
    crossings = tuple(float(s) for s in np.cumsum(draw.uniform(60, 160, 6)) if draw.random() < 0.7)
    road = Road(_bends(metres, 1 / 220, draw), strips, tuple(lines), crossings, (-kerb, kerb))
    middles = tuple((k + 0.5) * wide for k in range(lanes))
    parking = (-kerb + park / 2, kerb - park / 2) if park else ()
    walks = (-kerb - walk / 2, kerb + walk / 2)
    others = tuple(-x for x in middles)
    return Layout(
        "street", road, middles, others, parking, walks, (-kerb - walk, kerb + walk), float(draw.uniform(7, 14))
    )


def _middle(draw: np.random.Generator) -> tuple[Line, ...]:
    """Between the two directions: double and solid, or dashed."""
    colour = YELLOW if draw.random() < 0.5 else WHITE
    if draw.random() < 0.4:
        own = _line(draw, 0.12, colour, None)
        return own, Line(-0.12, own.width_m, colour, None, own.wear, is_lane=False)
    return (_line(draw, 0.0, colour, (3.0, float(draw.choice([6.0, 9.0])))),)


def _line(draw: np.random.Generator, at_m: float, colour: Colour, dash: tuple[float, float] | None) -> Line:
    wear = float(draw.choice([0.05, 0.2, 0.4], p=[0.5, 0.3, 0.2]))
    return Line(float(at_m), float(draw.uniform(0.12, 0.20)), colour, dash, wear)


def _surface(draw: np.random.Generator) -> tuple[tuple[float, float, float], bool]:
    """Colour of asphalt, dark when new, or of concrete; and whether it is concrete."""
    concrete = draw.random() < 0.2
    level = draw.uniform(140, 172) if concrete else draw.uniform(62, 128)
    return (float(level * 1.01), float(level), float(level * draw.uniform(0.95, 1.02))), concrete


def _seams(draw: np.random.Generator, lanes_m: np.ndarray, concrete: bool) -> list[Line]:
    """Dark lines along the road that are no paint: they must not be taken for lanes."""
    if concrete:
        return [Line(float(x) + 0.25, 0.03, JOINT, None, 0.2, is_lane=False) for x in lanes_m]
    places = draw.uniform(lanes_m[0], lanes_m[-1], int(draw.integers(0, 3)))
    return [Line(float(x), 0.06, TAR, None, 0.45, is_lane=False) for x in places]


def _verge(draw: np.random.Generator) -> Strip:
    green, dry, earth = (78, 98, 50), (168, 144, 96), (126, 112, 92)
    kind = draw.choice(3, p=[0.55, 0.3, 0.15])
    return Strip("Pavement" if kind == 2 else "Tree", -400.0, 400.0, [green, dry, earth][kind], 0.28)


def _bends(metres: float, sharpest: float, draw: np.random.Generator) -> np.ndarray:
    """(N,) curvature per metre: nothing in a quarter of the roads, else bends that come and go."""
    s = np.arange(0, metres + 260, STEP_M)
    if draw.random() < 0.25:
        return np.zeros_like(s)
    waves = sum(
        np.sin(2 * np.pi * (s / draw.uniform(170, 600) + draw.random())) * draw.uniform(0.3, 1) for _ in range(2)
    )
    bends: np.ndarray = np.asarray(waves) * sharpest * draw.uniform(0.35, 0.65)
    return bends
