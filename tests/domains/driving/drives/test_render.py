"""Frames and their truth: paint lies under lanes, boxes hold the pixels of their thing, weather changes the light."""

from dataclasses import replace

import numpy as np
import pytest

from domains.driving.classes import ROAD_CLASSES, VOID
from domains.driving.drives import render
from domains.driving.drives.render import draw_frame, lanes
from domains.driving.drives.scene import draw_scene
from domains.driving.drives.weather import SHARES

SHAPE = (180, 320)
ROWS = np.arange(100, 176, 4)


def scene(kind="street", light="overcast", seed=3, seconds=5.0):
    return draw_scene(np.random.default_rng(seed), SHAPE, seconds, kind, light)


def empty(kind, seed):
    """A road without anything on it, its lines solid and unworn."""
    made = scene(kind, seed=seed)
    lines = tuple(replace(line, dash_m=None, wear=0.0) for line in made.road.lines if line.is_lane)
    road = replace(made.road, lines=lines, crossings_m=())
    return replace(made, things=(), layout=replace(made.layout, road=road), bonnet=0.0)


@pytest.mark.parametrize(
    ("kind", "seed"), [("highway", 1), ("highway", 5), ("country", 2), ("country", 9), ("street", 4)]
)
def test_lanes__the_brightest_pixels_nearby_are_theirs(kind, seed):
    made = empty(kind, seed)
    grey = draw_frame(made, 2.0).image.max(-1).astype(float)
    off = []
    for line in lanes(made, 2.0, ROWS + 0.5):
        for x, row in zip(line, ROWS, strict=True):
            if 12 <= x < SHAPE[1] - 12:
                near = grey[row, round(x) - 10 : round(x) + 11]
                share = np.clip(near - np.median(near) - 25, 0, None)
                if share.sum() > 30:
                    off.append((share * (np.arange(21) + round(x) - 9.5)).sum() / share.sum() - x)
    assert len(off) > 15 and np.abs(np.median(off)) < 0.5
    assert np.percentile(np.abs(off), 80) < 1.5


def test_lanes__from_left_to_right_and_nowhere_else():
    made = scene("highway", seed=6)
    found = np.array(lanes(made, 2.0, ROWS))
    inside = found >= 0
    assert (found[inside] < SHAPE[1]).all() and set(np.unique(found[~inside])) <= {-2.0}
    shared = found[:, inside.all(0)]
    assert len(found) >= 3 and shared.size and (np.diff(shared, axis=0) > 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_boxes__hold_exactly_what_is_seen_of_their_thing(seed, monkeypatch):
    made, kept = scene(seed=seed, light="clear"), []
    through = render.through_lens
    monkeypatch.setattr(render, "through_lens", lambda *args: (kept.append(args[2]), through(*args))[1])
    frame = draw_frame(made, 3.0)
    owners = kept[0].owners
    boxes = {(b.left, b.top, b.right, b.bottom): b for b in frame.boxes}
    assert boxes
    for number in np.unique(owners[owners >= 0]):
        rows, columns = np.nonzero(owners == number)
        box = boxes.pop((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), None)
        kind = made.things[number].kind
        if box is not None:
            assert box.category == render.BOXED[kind]
            inside = frame.classes[box.top : box.bottom, box.left : box.right] == ROAD_CLASSES.index(kind)
            assert inside.sum() >= len(rows)
    assert not boxes


def test_boxes__what_is_almost_hidden_has_none():
    made = scene("highway", seed=8)
    lead = next(thing for thing in made.things if thing.vehicle is not None)
    own = float(made.motion.at("d_m", 2.0))
    near = replace(lead, gap_m=8.0, d_m=own, oncoming=False)
    far = replace(lead, gap_m=16.0, d_m=own, oncoming=False)
    aside = replace(far, d_m=own + 4.0)
    alone, hidden, both = (
        len(draw_frame(replace(made, things=t), 2.0).boxes) for t in ((far,), (far, near), (aside, near))
    )
    assert (alone, hidden, both) == (1, 1, 2)


def test_frame__is_a_pure_function_of_drive_and_time():
    made = scene("street", "night_rain")
    first, _, again = (draw_frame(made, t) for t in (1.0, 2.0, 1.0))
    assert np.array_equal(first.image, again.image) and first.boxes == again.boxes


@pytest.mark.parametrize("light", SHARES)
def test_frame__every_weather(light):
    frame = draw_frame(scene("country", light), 1.0)
    sky = frame.classes == ROAD_CLASSES.index("Sky")
    assert set(np.unique(frame.classes)) <= {*range(11), VOID}
    assert (frame.image[sky].mean() < 60) == light.startswith("night")
    assert frame.image.std() > 8


def test_frame__the_world_comes_nearer():
    made = scene("highway", seed=4)
    first, second, third = (draw_frame(made, t).image.astype(float) for t in (1.0, 1.04, 3.0))
    assert 1 < np.abs(second - first).mean() < np.abs(third - first).mean()
