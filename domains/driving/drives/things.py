"""What stands beside and moves on a generated road."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from domains.driving.drives import roadside
from domains.driving.drives.layouts import Layout
from domains.driving.drives.sprites import Sprite
from domains.driving.drives.vehicles import Vehicle, car, truck


@dataclass(frozen=True)
class Thing:
    """Something that can be seen; `s_m` is its end nearer to the beginning of the road, `d_m` its middle."""

    kind: str
    """A class of the road scene."""
    s_m: float
    d_m: float
    width_m: float
    height_m: float
    pictures: tuple[Sprite, ...]
    """One, or two steps of a stride, shown towards the camera; of a wall the one along the road."""
    length_m: float = 0.0
    """Of what stretches along the road: a wall, a vehicle."""
    lift_m: float = 0.0
    vehicle: Vehicle | None = None
    oncoming: bool = False
    speed_m_per_s: float = 0.0
    """Along the road."""
    across_m_per_s: float = 0.0
    gap_m: float | None = None
    """Ahead of the camera's car, which it leads; then it has no place or speed of its own."""

    def at(self, seconds: float, own_s_m: float) -> tuple[float, float]:
        """Where it is at a time: metres along and across the road."""
        if self.gap_m is not None:
            return own_s_m + self.gap_m * (1 + 0.25 * np.sin(seconds / 2.3 + self.gap_m)), self.d_m
        return self.s_m + self.speed_m_per_s * seconds, self.d_m + self.across_m_per_s * seconds


@dataclass(frozen=True)
class Crowd:
    """Pictures that a drive's things share."""

    cars: tuple[Vehicle, ...]
    trucks: tuple[Vehicle, ...]
    people: tuple[tuple[Sprite, ...], ...]
    cyclists: tuple[tuple[Sprite, ...], ...]
    trees: tuple[Sprite, ...]
    facades: tuple[Sprite, ...]
    signs: tuple[Sprite, ...]
    rails: tuple[Sprite, ...]
    poles: tuple[Sprite, Sprite]
    """For the left side of the road and for the right one."""
    post: Sprite

    @classmethod
    def draw(cls, draw: np.random.Generator) -> Crowd:
        def strides(make: Callable[[np.random.Generator, float], Sprite]) -> tuple[Sprite, ...]:
            seed = int(draw.integers(2**32))
            return tuple(make(np.random.default_rng(seed), stride) for stride in (0.1, 0.9))

        return cls(
            cars=tuple(car(draw) for _ in range(8)),
            trucks=tuple(truck(draw) for _ in range(3)),
            people=tuple(strides(roadside.person) for _ in range(5)),
            cyclists=tuple(strides(roadside.cyclist) for _ in range(3)),
            trees=tuple(roadside.tree(draw) for _ in range(7)),
            facades=tuple(roadside.facade(draw) for _ in range(6)),
            signs=tuple(roadside.sign(draw) for _ in range(4)),
            rails=tuple(roadside.rail(draw) for _ in range(2)),
            poles=(roadside.pole(-1), roadside.pole(1)),
            post=roadside.post(),
        )


def populate(layout: Layout, lane: int, free: int, metres: float, draw: np.random.Generator) -> tuple[Thing, ...]:
    """Everything along a road of so many metres.

    Args:
        layout: of the road.
        lane: index of the own one; something may drive ahead in it.
        free: index of the one that the camera's car will change to, which is kept empty; `lane` where it stays.
        metres: that are driven.
        draw: gives every random number.
    """
    crowd = Crowd.draw(draw)
    return (
        *_traffic(layout, crowd, lane, free, metres, draw),
        *_roadside(layout, crowd, metres + 150, draw),
        *_people(layout, crowd, metres + 100, draw),
    )


def _traffic(
    layout: Layout, crowd: Crowd, lane: int, free: int, metres: float, draw: np.random.Generator
) -> Iterator[Thing]:
    own, dense = layout.speed_m_per_s, float(draw.uniform(0.5, 1.6))
    if draw.random() < 0.65 and free == lane:
        gap = float(draw.uniform(0.5, 2.2) * own + 5)
        yield _moving(_some(crowd, draw, 0.15), 0, layout.own_lanes_m[lane], draw, gap=gap)
    for at, middle in enumerate(layout.own_lanes_m):
        if at in (lane, free):
            continue
        pace = own * draw.uniform(0.8, 1.15)
        for s in _spread(-metres * 0.3, metres + 80, 34 / dense, draw):
            yield _moving(_some(crowd, draw, 0.2), s, middle, draw, pace)
    for middle in layout.other_lanes_m:
        pace = -own * draw.uniform(0.7, 1.1)
        for s in _spread(10, 2.2 * metres + 120, 40 / dense, draw):
            yield _moving(_some(crowd, draw, 0.12), s, middle, draw, pace, oncoming=True)
    for middle in layout.parking_m:
        for s in _spread(0, metres + 120, 9, draw):
            yield _moving(_some(crowd, draw, 0.06), s, middle, draw, oncoming=middle < 0)
    if layout.name != "highway":
        edge = layout.own_lanes_m[-1] + 1.2
        for s in _spread(20, metres + 60, 55, draw):
            rider = crowd.cyclists[draw.integers(3)]
            ahead = draw.random() < 0.6
            yield Thing("Bicyclist", s, edge if ahead else -edge, 0.7, 1.75, rider,
                        speed_m_per_s=float(draw.uniform(3, 6)) * (1 if ahead else -1))  # fmt: skip


def _some(crowd: Crowd, draw: np.random.Generator, trucks: float) -> Vehicle:
    fleet = crowd.trucks if draw.random() < trucks else crowd.cars
    return fleet[draw.integers(len(fleet))]


def _moving(
    vehicle: Vehicle, s_m: float, d_m: float, draw: np.random.Generator, speed: float = 0.0, oncoming: bool = False,
    gap: float | None = None,
) -> Thing:  # fmt: skip
    return Thing(
        "Car", s_m, d_m + float(draw.uniform(-0.25, 0.25)), vehicle.width_m, vehicle.height_m, (), vehicle.length_m,
        vehicle=vehicle, oncoming=oncoming, speed_m_per_s=float(speed), gap_m=gap,
    )  # fmt: skip


def _roadside(layout: Layout, crowd: Crowd, metres: float, draw: np.random.Generator) -> Iterator[Thing]:
    for side, edge in zip((-1, 1), layout.walls_m, strict=True):
        if layout.name == "street":
            yield from _houses(side, edge, crowd, metres, draw)
        else:
            yield from _green(side, edge, layout.name, crowd, metres, draw)
        if layout.name != "highway" or draw.random() < 0.4:
            inner = edge - side * float(draw.uniform(0.3, 0.7))
            for s in _spread(6, metres, 32, draw):
                yield Thing("Pole", s, inner - side * 1.1, 2.3, 7.0, (crowd.poles[side > 0],))
                if draw.random() < 0.5:
                    post = float(draw.uniform(2.0, 2.6))
                    picture = (crowd.signs[draw.integers(4)],)
                    yield Thing("Pole", s + 6, inner, 0.09, post, (crowd.post,))
                    yield Thing("SignSymbol", s + 5.95, inner, 0.75, 0.75, picture, lift_m=post - 0.2)


def _houses(side: int, edge: float, crowd: Crowd, metres: float, draw: np.random.Generator) -> Iterator[Thing]:
    s = float(draw.uniform(0, 8))
    while s < metres:
        long, back = float(draw.uniform(9, 20)), float(draw.uniform(0.2, 3.5))
        if draw.random() < 0.8:
            tall, deep = float(draw.uniform(6, 15)), float(draw.uniform(8, 14))
            yield Thing("Building", s, edge + side * (back + deep / 2), deep, tall,
                        (crowd.facades[draw.integers(6)],), long)  # fmt: skip
        else:
            long = float(draw.uniform(6, 14))
            yield from _fence(side, edge + side * 0.6, s, s + long, 1.2, crowd.rails[draw.integers(2)])
            yield _tree(crowd, s + long / 2, edge + side * draw.uniform(2, 5), draw)
        if draw.random() < 0.3:
            yield _tree(crowd, s + 2, edge - side * 0.3, draw, 5.5)
        s += long + float(draw.choice([0.0, 2.0, 6.0]))


def _green(
    side: int, edge: float, name: str, crowd: Crowd, metres: float, draw: np.random.Generator
) -> Iterator[Thing]:
    barrier = name == "highway" and (side < 0 or draw.random() < 0.6)
    if barrier or draw.random() < 0.4:
        rail = crowd.rails[draw.integers(2)]
        yield from _fence(side, edge if barrier else edge + side * 3, 0.0, metres, 0.85 if barrier else 1.2, rail)
    far = edge + side * (28.0 if name == "highway" and side < 0 else 2.5)
    for s in _spread(0, metres, float(draw.uniform(6, 22)), draw):
        yield _tree(crowd, s, far + side * float(draw.exponential(7)), draw)
    if name == "country":
        for s in _spread(30, metres, 90, draw):
            yield Thing("Building", s, far + side * float(draw.uniform(6, 16)), 9.0, float(draw.uniform(4, 7)),
                        (crowd.facades[draw.integers(6)],), 12.0)  # fmt: skip


def _fence(side: int, d_m: float, first: float, last: float, tall: float, rail: Sprite) -> Iterator[Thing]:
    for s in np.arange(first, last, 7.0):
        yield Thing("Fence", float(s), d_m, 0.0, tall, (rail,), 7.0)


def _tree(crowd: Crowd, s_m: float, d_m: float, draw: np.random.Generator, most: float = 14.0) -> Thing:
    tall = float(min(most, draw.uniform(3, 12)))
    return Thing("Tree", s_m, float(d_m), tall * float(draw.uniform(0.7, 1.0)), tall, (crowd.trees[draw.integers(7)],))


def _people(layout: Layout, crowd: Crowd, metres: float, draw: np.random.Generator) -> Iterator[Thing]:
    for middle in layout.walks_m:
        for s in _spread(5, metres, 14, draw):
            pace = float(draw.choice([-1.3, 0.0, 1.3]))
            yield Thing("Pedestrian", s, middle + float(draw.uniform(-0.9, 0.9)), 0.6, float(draw.uniform(1.5, 1.85)),
                        crowd.people[draw.integers(5)], speed_m_per_s=pace)  # fmt: skip
    for s in layout.road.crossings_m:
        for _ in range(int(draw.integers(0, 3))):
            way = float(draw.choice([-1, 1]))
            begin = -way * float(draw.uniform(4, 16))
            yield Thing("Pedestrian", s + float(draw.uniform(0.5, 2.5)), begin, 0.6, float(draw.uniform(1.5, 1.85)),
                        crowd.people[draw.integers(5)], across_m_per_s=1.3 * way)  # fmt: skip


def _spread(first: float, last: float, mean_m: float, draw: np.random.Generator) -> Iterator[float]:
    """Places along the road, at least half of the mean distance apart."""
    s = first + float(draw.uniform(0, mean_m))
    while s < last:
        yield s
        s += mean_m * (0.5 + float(draw.exponential(0.5)))
