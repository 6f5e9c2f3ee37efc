"""The lanes head: targets, inference on the source's pixels, figures by hand, the competitor, and that it learns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from domains.driving.entries import open_entry
from domains.driving.heads import lanes
from domains.driving.hough import hough_lanes
from domains.driving.lane_score import score
from domains.driving.lanes import SLOTS, lanes_at, present
from domains.driving.shapes import Shape, Shapes, judged_shapes, open_shapes
from pipelines.models import new_model
from ssl_models.decoders.rows import CELL, row_places
from ssl_models.optim import adamw, parameter_groups, set_learning_rate, warmup_cosine

HEAD = lanes.HEAD


class Told(nn.Module):
    """A model that says what it is told, for every crop or for every frame of a clip: x of (SLOTS, R), nan: no lane."""

    def __init__(self, x):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        x = torch.as_tensor(x)
        at = (x.nan_to_num(0) / CELL - 0.5).clamp(0)
        cells = torch.arange(int(at.max()) + 4)
        scores = (1 - (cells - at[..., None]).abs()).clamp(1e-9).log()  # the mean of two cells is x
        self.rows = torch.cat([scores, torch.where(x.isnan(), -9.0, 9.0)[..., None]], -1)

    def forward(self, crops):
        clips = (crops.shape[2],) if crops.ndim == 5 else ()
        return self.rows.expand(len(crops), *clips, *self.rows.shape) + self.weight


def test_row_places__of_what_is_told():
    x = torch.full((SLOTS, 4), torch.nan)
    x[2] = torch.tensor([2.0, 17.0, 18.5, 30.0])
    found, there = row_places(Told(x)(torch.zeros(1, 3, 16, 40)))
    assert torch.allclose(found[0, 2], x[2], atol=1e-3) and ((there > 0.5) == x.isfinite()).all()


def test_predict__targets_come_back_as_the_labels_they_were_made_from(lane_frames):
    """From the file to targets, through the decoder's rows and back: within two pixels of the source, at the ends."""
    entry, label = lane_frames.entries[3], lane_frames.labels[3]
    shape = lane_frames.contract.crop_shape
    [prediction] = HEAD.predict(Told(lanes.targets(open_shapes(label).on(0), shape)), entry, lane_frames.contract)
    found = present(prediction)
    assert [slot for slot, _ in found] == [1, 2, 3] and prediction.shape == (SLOTS, 24, 3)
    labelled = [shape.points[np.isfinite(shape.points[:, 0])] for shape in judged_shapes(label).on(0)]
    for (_, points), known in zip(found, [one for one in labelled if len(one) > 6], strict=True):
        inside = (known[:, 1] >= points[0, 1]) & (known[:, 1] <= points[-1, 1])
        assert inside.sum() >= len(known) - 2  # the rows of the decoder may begin and end one of the label later
        assert np.abs(np.interp(known[inside, 1], points[:, 1], points[:, 0]) - known[inside, 0]).max() < 2


def test_window__the_middle_of_the_lower_edge():
    rows, columns = lanes.window((120, 200), (8, 96, 128))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (24, 120, 36, 164)


def test_predict__a_clip_model_covers_every_frame(clips):
    x = np.full((SLOTS, 24), np.nan, np.float32)
    x[3] = np.linspace(66, 100, 24)
    prediction = HEAD.predict(Told(x), clips.entries[0], clips.contract)
    entry = open_entry(clips.entries[0])
    assert prediction.shape == (len(entry), SLOTS, 24, 3)
    assert prediction[-1, 3, :, 0] == pytest.approx(x[3] * 2.5, abs=0.1)  # 128 stored for 320 of the source
    assert prediction[0, 0, :, 1] == pytest.approx((np.arange(24) + 0.5) * 10)


def test_of_frames__does_not_depend_on_how_many_are_given(lane_frames):
    torch.manual_seed(0)
    model = new_model(lane_frames.recipe, lane_frames.contract)
    frames = np.concatenate([open_entry(one).read([0]) for one in lane_frames.entries[:3]])
    together = lanes.of_frames(model, frames, lane_frames.contract, (240, 320))
    alone = lanes.of_frames(model, frames[1:2], lane_frames.contract, (240, 320))
    assert np.allclose(together[1], alone[0], atol=1e-3) and model.training


def label_of(folder, entry, frames):
    """A label entry with x = `frames[n]` of upright lanes on frame n, at every tenth row."""
    folder.mkdir()
    grid = open_entry(entry).grid
    rows = np.arange(5, 240, 10, dtype=np.float32)
    shapes = [Shape(n, 0, np.stack([np.full_like(rows, x), rows], 1)) for n, xs in frames.items() for x in xs]
    Shapes(frames, shapes).save(folder)
    grid.save(folder)
    return folder


def predicted(entry, frames):
    rows = np.arange(5, 240, 10, dtype=np.float32)
    each = []
    for n in range(len(open_entry(entry))):
        x = lanes_at(
            [Shape(n, 0, np.array([[x, 0], [x, 240]], np.float32)) for x in frames.get(n, ())], rows, (240, 320)
        )
        each.append(np.stack([np.nan_to_num(x), np.broadcast_to(rows, x.shape), np.isfinite(x)], -1))
    return np.stack(each).astype(np.float32)


def test_score_and_pool__by_hand(clips, tmp_path):
    entry = clips.entries[0]
    label = label_of(tmp_path / "a", entry, {1: [100, 220], 2: [100, 220], 5: []})
    # a band is 30 / 1640 * 320 = 5.9 pixels wide here: 1 pixel beside is found, 5 are not
    prediction = predicted(entry, {1: [101, 225], 2: [101, 221], 5: [50], 7: [10, 20, 30]})
    figures, detail = score(prediction, entry, label)
    assert figures["case_f1"] == pytest.approx(2 * 3 / (5 + 4))
    assert (detail["found"][0], detail["predicted"], detail["there"], detail["frames"]) == (3, 5, 4, 3)
    pooled = HEAD.pool([detail, detail])
    assert pooled["lane_f1"] == pytest.approx(2 / 3) and pooled["lane_mean_f1"] < pooled["lane_f1"]
    # 5 pixels are 20 in a frame 1280 wide, and that is too far: half of frame 1; frame 5 has one lane made up
    assert pooled["tusimple_accuracy"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert pooled["tusimple_fp"] == pytest.approx((0.5 + 0 + 1) / 3) and pooled["tusimple_fn"] == pytest.approx(0.5 / 3)
    # from frame 1 to 2, a tenth of a second: nothing on the left, 4 pixels on the right; the label stands still
    assert pooled["jitter_px_per_s"] == pytest.approx(20)
    assert HEAD.summarise([detail])["jitter_of_the_labels_px_per_s"] == 0


def test_score__nothing_to_find(clips, tmp_path):
    entry = clips.entries[0]
    label = label_of(tmp_path / "a", entry, {0: []})
    assert HEAD.primary_score(predicted(entry, {}), entry, label) == 1
    assert HEAD.primary_score(predicted(entry, {0: [100]}), entry, label) == 0
    assert np.isnan(HEAD.pool([score(predicted(entry, {}), entry, label)[1]])["lane_f1"])


def test_write_mask__is_a_label_that_can_be_learned(lane_frames, tmp_path):
    entry = lane_frames.entries[0]
    prediction = HEAD.trivial(entry, lane_frames.contract)
    HEAD.write_mask(prediction, entry, tmp_path, lane_frames.contract)
    assert HEAD.primary_score(prediction, entry, tmp_path) == 1
    shape = lane_frames.contract.crop_shape
    told = Told(lanes.targets(open_shapes(tmp_path).on(0), shape))
    assert HEAD.primary_score(HEAD.predict(told, entry, lane_frames.contract), entry, tmp_path) == 1


def test_as_json__is_what_is_drawn(lane_frames):
    [prediction] = HEAD.trivial(lane_frames.entries[0], lane_frames.contract)
    said = json.loads(json.dumps(lanes.as_json(prediction)))
    assert set(said) == {"lanes", "h_samples", "slots", "scores"} and len(said["h_samples"]) == prediction.shape[1]
    assert said["slots"] == [slot for slot, _ in present(prediction)] and said["scores"] == [1.0] * len(said["slots"])
    dark = np.zeros((240, 320, 3), np.uint8)
    shown = lanes.drawn(dark, prediction, lane_frames.contract)
    assert dark.max() == 0
    for lane in said["lanes"]:
        for x, y in zip(lane, said["h_samples"], strict=True):
            assert x == -2 or shown[int(y), max(0, int(x) - 2) : int(x) + 3].max() > 200


def test_hough__finds_painted_lines_and_nothing_on_an_empty_road():
    import cv2

    road = np.full((162, 288, 3), 90, np.uint8)
    assert hough_lanes(road) == []
    for line in ([(60, 161), (128, 90)], [(250, 161), (160, 90)]):
        cv2.line(road, *line, (250, 250, 250), 3)
    left, right = hough_lanes(road)
    for found, line in ((left, [(60, 161), (128, 90)]), (right, [(250, 161), (160, 90)])):
        (x1, y1), (x2, y2) = line
        wanted = x1 + (x2 - x1) * (130 - y1) / (y2 - y1)
        assert np.interp(130, found[:, 1], found[:, 0]) == pytest.approx(wanted, abs=1.5)


def test_trivial__is_good_where_the_road_is_straight(lane_frames):
    pairs = list(zip(lane_frames.entries, lane_frames.labels, strict=True))[::3]
    details = [score(HEAD.trivial(entry, lane_frames.contract), entry, label)[1] for entry, label in pairs]
    assert 0.3 < HEAD.pool(details)["lane_f1"] < 1


@pytest.mark.slow
def test_head__learns_the_lanes_of_a_drive_it_has_not_seen(lane_frames):
    """Ten frames of one drive, a few dozen steps; judged on the other drive, beside Hough lines."""
    torch.manual_seed(0)
    recipe, contract = lane_frames.recipe, lane_frames.contract
    model, crops = new_model(recipe, contract), lane_frames.crops(labelled=True, augment=True)
    optimizer = adamw(parameter_groups(model, weight_decay=0.01), learning_rate=3e-3)
    draw, steps = np.random.default_rng(0), 60
    for step in range(steps):
        set_learning_rate(optimizer, 3e-3 * warmup_cosine(step, steps=steps, warmup_steps=5))
        batch = crops.batch(draw.integers(0, 10, 4).tolist(), draw.integers(0, 2**40, 4).tolist())
        optimizer.zero_grad()
        HEAD.loss(model(batch.crops[:, 0]), batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    held_out = list(zip(lane_frames.entries, lane_frames.labels, strict=True))[10:]
    ours = [score(HEAD.predict(model, entry, contract), entry, label)[1] for entry, label in held_out]
    theirs = [score(HEAD.trivial(entry, contract), entry, label)[1] for entry, label in held_out]
    assert HEAD.pool(ours)["lane_f1"] > max(0.9, HEAD.pool(theirs)["lane_f1"])


@pytest.mark.parametrize("encoder", ["resunet", "x3d"])
def test_loss__clips_with_frames_that_nobody_labelled(clips, tmp_path, encoder):
    """A clip's frames are learned one by one; where only one is labelled, the others' rows get no gradient."""
    recipe = clips.recipe.changed({"encoder": encoder})
    batch = clips.crops(labelled=True).batch([0, 1], [1, 2])
    batch.targets[:, :-1] = torch.inf
    torch.manual_seed(0)
    rows = new_model(recipe, clips.contract)(batch.crops[:, 0])
    assert rows.shape == (2, 8, SLOTS, 24, 33)
    rows.retain_grad()
    HEAD.loss(rows, batch).backward()
    assert rows.grad[:, :-1].abs().max() == 0 < rows.grad[:, -1].abs().max()
