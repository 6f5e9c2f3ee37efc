"""Targets, boxes on the source's pixels, scores and pseudo-labels by hand; it learns from generated streets."""

import json

import numpy as np
import pytest
import torch
from driving_files import read_all
from torch import nn

from domains.driving import DOMAIN
from domains.driving.box_labels import rows_of
from domains.driving.coco import IGNORED_ALL, crowd
from domains.driving.entries import Grid
from domains.driving.generate import write_frames
from domains.driving.heads import obstacles
from domains.driving.recipes import RECIPES
from domains.driving.shapes import Shape, Shapes, corners, judged_shapes
from domains.errors import RecipeError
from pipelines.models import new_model
from ssl_models.optim import warmup_cosine

RECIPE = RECIPES["dashcam_obstacles"]
CONTRACT = DOMAIN.plan([], RECIPE)


def box(kind, *sides, frame=0):
    return corners(Shape(frame, kind, np.array(sides, np.float32).reshape(2, 2)))


def still(folder, pixels, native=None):
    """A subject entry of one stored frame (H, W, 3)."""
    folder.mkdir(parents=True)
    np.save(folder / "frames.npy", pixels[None])
    np.save(folder / "pts_seconds.npy", np.zeros(1))
    Grid(stored_shape=pixels.shape[:2], native_shape=native or pixels.shape[:2]).save(folder)
    return folder


def labelled(folder, shapes, frames=(0,), native=(60, 80)):
    folder.mkdir(parents=True)
    Shapes(frames, shapes).save(folder)
    Grid(stored_shape=native, native_shape=native).save(folder)
    return folder


def test_targets__cut_off_at_the_crop_and_ignored_where_too_little_is_seen():
    shapes = [
        box(1, 10, 10, 20, 30),
        box(0, -20, 0, 60, 50),  # three quarters of it are seen
        box(0, 70, 10, 110, 30),  # a quarter of it is
        box(2, 100, 10, 120, 30),  # nothing
        box(IGNORED_ALL, 30, 40, 50, 70),
        box(crowd(1), 60, 40, 75, 50),
    ]
    found = obstacles.targets(shapes, (60, 80))
    assert found.shape == (64, 5) and found.dtype == np.float32 and (found[5:] == -1).all()
    assert sorted(found[:5].tolist()) == sorted(
        [[0, 0, 0, 60, 50], [-2, 30, 40, 50, 60], [1, 10, 10, 20, 30], [-2, 70, 10, 80, 30], [-2, 60, 40, 75, 50]]
    )
    assert found[0].tolist() == [0, 0, 0, 60, 50]
    assert (obstacles.targets([], (60, 80)) == -1).all()


class Says(nn.Module):
    """Logits with one vehicle in the middle of place (row 5, column 9) of a map of stride 4, whatever it sees."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        logits = torch.full((len(x), 7, x.shape[2] // 4, x.shape[3] // 4), -20.0)
        logits[:, 3:], logits[:, 0, 5, 9] = 0, 3.0
        return logits


def test_of_frames__padded_to_whole_strides_and_given_on_the_sources_pixels():
    model = Says()
    first, second = obstacles.of_frames(model, np.zeros((2, 40, 50, 3), np.uint8), CONTRACT, (80, 150))
    assert model.seen == [(2, 3, 48, 64)] and np.array_equal(first, second)
    # from (38, 22) four pixels to each side, then times 3 across and 2 down
    assert first == pytest.approx(np.array([[0, 0.9526, 34 * 3, 18 * 2, 42 * 3, 26 * 2]]), abs=1e-3)
    assert json.loads(json.dumps(obstacles.as_json(first))) == {
        "boxes": [{"class": "vehicle", "score": 0.9526, "box": [102, 36, 126, 52]}]
    }


def test_drawn__likely_boxes_alone():
    frame = np.full((60, 80, 3), 90, np.uint8)
    boxes = np.array([[0, 0.9, 10, 20, 40, 50], [1, 0.1, 50, 20, 70, 50]], np.float32)
    changed = (obstacles.drawn(frame, boxes, CONTRACT) != frame).any(-1)
    assert changed[35, 10] and changed[35, 40] and not changed[35, 25] and not changed[35, 50:].any()


def test_score__frames_of_a_recording_apart(tmp_path):
    label = labelled(tmp_path / "label", [box(0, 0, 0, 40, 40, frame=3), box(0, 0, 0, 40, 40, frame=5)], (3, 5, 6))
    right, elsewhere = [3, 0, 0.9, 0, 0, 40, 40], [4, 0, 0.95, 50, 0, 70, 30]
    figures, details = obstacles.score(np.array([right, elsewhere], np.float32), label, label)
    assert figures["frame_ap50"] == pytest.approx(51 / 101)  # one of two found; frame 4 is not labelled
    on_a_negative = [6, 0, 0.95, 0, 0, 40, 40]
    worse, _ = obstacles.score(np.array([right, on_a_negative], np.float32), label, label)
    assert worse["frame_ap50"] == pytest.approx(51 / 2 / 101)
    pooled = obstacles.HEAD.pool(json.loads(json.dumps([details])))
    assert pooled["ap50"] == figures["frame_ap50"] and obstacles.HEAD.primary_metric in pooled
    by = obstacles.summarise([details])["by"]
    assert by["vehicle"]["objects"] == 2 and by["cyclist"] == {"ap": None, "ap50": None, "objects": 0}


def test_write_mask__sure_boxes_are_objects_and_unsure_ones_ignored(tmp_path):
    entry, out = still(tmp_path / "entry", np.zeros((30, 40, 3), np.uint8), (60, 80)), tmp_path / "out"
    out.mkdir()
    rows = [[0, 2, 0.8, 1, 2, 11, 22], [0, 1, 0.4, 30, 2, 41, 22], [0, 1, 0.2, 50, 2, 61, 22]]
    obstacles.write_mask(np.array(rows, np.float32), entry, out, CONTRACT)
    written = judged_shapes(out)
    assert written.labelled.tolist() == [0]
    assert rows_of(written).tolist() == [[2, 1, 2, 11, 22], [IGNORED_ALL, 30, 2, 41, 22]]


def test_dark_patches__a_shadow_on_the_road_carries_a_vehicle(tmp_path):
    pixels = np.full((120, 160, 3), 120, np.uint8)
    pixels[78:82, 60:90] = 20
    found = obstacles.dark_patches(still(tmp_path / "entry", pixels, (240, 320)), CONTRACT)
    assert found.shape == (1, 7) and found[0, 2] > 0.25
    assert found[0, 3:] == pytest.approx([120, 164 - 0.8 * 60, 180, 164], abs=4)
    assert obstacles.dark_patches(still(tmp_path / "plain", pixels * 0 + 120), CONTRACT).shape == (0, 7)


def test_decoder__not_for_clips():
    clips = type("Encoder", (), {"spatial_axes": 3})()
    with pytest.raises(RecipeError, match="clip_frames=0"):
        obstacles.decoder(clips, 3)


def test_named__classes_of_the_recipe(tmp_path):
    recipe = RECIPE.changed({"data.label_classes": "[car, bus]"})
    head = DOMAIN.head(recipe)
    label = labelled(tmp_path / "label", [box(1, 0, 0, 40, 40)])
    _, details = head.score(np.array([[0, 1, 0.9, 0, 0, 40, 40]], np.float32), label, label)
    assert details["objects"] == [0, 1] and set(head.summarise([details])["by"]) == {"car", "bus"}
    assert DOMAIN.plan([], recipe).num_classes == 2


@pytest.mark.slow
def test_learns__boxes_of_ten_generated_frames(tmp_path):
    """After 70 steps an AP at IoU 0.5 of 0.19 on what it has seen, much of it a few pixels large; before, of 0."""
    small = {"data.height": "120", "data.width": "160", "data.crop_height": "96", "data.crop_width": "128"}
    recipe = RECIPE.changed(small)
    write_frames(tmp_path / "source", 10, 3)
    seen = read_all(DOMAIN.scan(tmp_path / "source", recipe).candidates, recipe, tmp_path / "entries")
    crops, model, steps = seen.crops(labelled=True), new_model(recipe, seen.contract), 70
    before = _ap50(model, seen)
    optimiser = torch.optim.AdamW(model.to(memory_format=torch.channels_last).parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: warmup_cosine(n, steps=steps, warmup_steps=10))
    for step in range(steps):
        batch = crops.batch([(step * 6 + n) % 10 for n in range(6)], [step * 6 + n for n in range(6)])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch.crops[:, 0].contiguous(memory_format=torch.channels_last))
        optimiser.zero_grad()
        obstacles.loss(logits, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    assert before < 0.02 and _ap50(model, seen) > 0.1


def _ap50(model, seen):
    each = [
        obstacles.score(obstacles.predict(model, entry, seen.contract), entry, label)[1]
        for entry, label in zip(seen.entries, seen.labels, strict=True)
    ]
    return obstacles.HEAD.pool(each)["ap50"]
