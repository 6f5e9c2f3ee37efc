"""The road painter: from the seed alone, where its label says, in perspective; a network learns real paint from it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from domains.driving import DOMAIN
from domains.driving.drives.render import draw_frame, lanes
from domains.driving.drives.scene import draw_scene
from domains.driving.entries import normalised
from domains.driving.paint import RoadPainter, paint_lanes, without_strips
from domains.driving.plan import DEVIATION, FRAME_PATCH, FRAME_POOLING, MEAN
from domains.driving.recipes import RECIPES
from ssl_models import objectives
from ssl_models.encoders import build
from ssl_models.protocols import Batch, Geometry

SEEDS = torch.arange(12) * 977


def grey(count=12, shape=(96, 128)):
    """Evenly lit crops with grain."""
    generator = torch.Generator().manual_seed(0)
    return -0.5 + 0.1 * torch.randn(count, 3, *shape, generator=generator)


@pytest.mark.parametrize("of_lanes", [True, False])
def test_painter__a_row_depends_on_its_seed_and_its_pair_alone(of_lanes):
    paint, crops = RoadPainter(of_lanes, MEAN, DEVIATION), grey()
    painted, label = paint(crops, None, None, SEEDS)
    some, some_label = paint(crops[4:8], None, None, SEEDS[4:8])
    assert torch.equal(painted[4:8], some) and torch.equal(label[4:8], some_label)
    other, _ = paint(crops, None, None, SEEDS + 1)
    assert painted.shape == crops.shape and label.shape == (12, 1, 96, 128) and label.dtype == torch.int64
    assert torch.isfinite(painted).all() and not torch.equal(painted, other)


@pytest.mark.parametrize(("of_lanes", "most"), [(True, 0.12), (False, 0.7)])
def test_painter__marks_what_it_painted(of_lanes, most):
    crops = grey()
    painted, label = RoadPainter(of_lanes, MEAN, DEVIATION)(crops, None, None, SEEDS)
    change, marked = (painted - crops).abs().mean(1, keepdim=True), label == 1
    assert change[marked].mean() > 10 * change[~marked].mean()
    each = marked.float().mean((1, 2, 3))
    assert 0.001 < each[each > 0].mean() < most and (each > 0).float().mean() > 0.6


def test_paint_lanes__brighter_and_narrower_towards_the_vanishing_point():
    frame = np.full((96, 128, 3), 90, np.float32)
    for seed in range(6):
        painted, label = paint_lanes(frame, 64.0, 40.0, np.random.default_rng(seed))
        assert not label[:40].any() and painted[label].mean() > frame[label].mean() + 15
        far, near = (
            label[rows].sum() / max(1, np.any(label[rows], axis=1).sum()) for rows in (slice(44, 60), slice(80, 96))
        )
        assert label[80:].sum() < 20 or far < near
    edges = [np.flatnonzero(label.any(0))[[0, -1]] for label in (label[45:55], label[85:])]
    assert np.ptp(edges[0]) < np.ptp(edges[1])


def test_without_strips__paint_is_gone_and_the_rest_stays():
    made = draw_scene(np.random.default_rng(1), (96, 128), 3.0, "highway", "overcast")
    made = replace(made, things=(), bonnet=0.0, weather=replace(made.weather, noise=0.0))
    bare = replace(made, layout=replace(made.layout, road=replace(made.road, lines=())))
    lined, unlined = (draw_frame(one, 1.0).image.astype(np.float32) for one in (made, bare))
    rubbed = without_strips(lined, 64.0, 50)
    paint = np.abs(lined - unlined).max(-1) > 25
    paint[:60] = False
    assert paint.sum() > 30
    assert np.abs(rubbed - unlined)[paint].mean() < 0.35 * np.abs(lined - unlined)[paint].mean()
    assert np.abs(rubbed - lined)[~paint].mean() < 1.5 and np.array_equal(rubbed[:50], lined[:50])


def test_make_painter__paints_what_the_classes_are_called():
    contract = DOMAIN.plan([{"shape": [240, 320]}], RECIPES["road_scene"])
    painters = {name: DOMAIN.painter(contract, recipe) for name, recipe in RECIPES.items()}
    assert {name: painter.lanes for name, painter in painters.items()} == {
        "road_scene": False, "dashcam_obstacles": False, "dashcam_lanes": True,
    }  # fmt: skip
    assert DOMAIN.paints(RECIPES["dashcam_lanes"])
    assert not DOMAIN.paints(RECIPES["dashcam_lanes"].changed({"data.clip_frames": "8"}))


def roads(seeds, kind, alone):
    """Normalised frames (N, 3, 96, 128) of roads, and where their lane lines are, five pixels wide."""
    frames, masks, rows = [], [], np.arange(44, 97, 2.0)
    for seed in seeds:
        made = draw_scene(np.random.default_rng([seed, 4]), (96, 128), 3.0, kind, "overcast")
        made = replace(made, things=(), bonnet=0.0) if alone else made
        frames.append(normalised(draw_frame(made, 1.5).image[None], MEAN, DEVIATION)[:, 0])
        mask = np.zeros((96, 128), np.uint8)
        for x in np.array(lanes(made, 1.5, rows)):
            points = np.stack([x, rows], 1)[x >= 0]
            cv2.polylines(mask, [points.round().astype(np.int32)], False, 1, 5)
        masks.append(mask > 0)
    return torch.from_numpy(np.stack(frames)), np.stack(masks)


@pytest.mark.slow
def test_anomaly_synthesis__finds_real_paint_without_a_label():
    """Painted frames of other drives, no label; judged on lane lines in the lower part of the picture."""
    torch.manual_seed(0)
    crops, _ = roads(range(100, 124), None, alone=False)
    held_out, lines = roads(range(8), "highway", alone=True)
    encoder = build("resunet", size="tiny", in_channels=3, geometry=Geometry((96, 128), FRAME_POOLING, FRAME_PATCH))
    painter = RoadPainter(True, MEAN, DEVIATION)
    objective = objectives.build("anomaly_synthesis", encoder, settings={}, painter=painter)

    def judged():
        with torch.no_grad():
            found = objective.decoder(objective.encoder(held_out)).argmax(1)[:, 60:].bool().numpy()
        inside = lines[:, 60:]
        return found[inside].mean(), found[~inside].mean()

    before = judged()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(160):
        at = torch.randperm(24)[:4]
        batch = Batch(crops=crops[at, None], sample_seed=at + 1000 * step, group_id=("",) * 4)
        optimizer.zero_grad()
        objective(batch).total.backward()
        optimizer.step()
    after = judged()
    print(f"found of the lines and beside them: untrained {before}, trained {after}")
    assert after[0] > 0.05 and after[0] > 50 * after[1] and before[0] < 3 * before[1]
