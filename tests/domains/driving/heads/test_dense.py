"""Losses, IoU and pooling by hand; inference covers every pixel and every frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from domains.driving import show
from domains.driving.entries import open_entry
from domains.driving.heads import HEADS, dense, road_scene
from ssl_models.protocols import Batch


def labelled(targets) -> Batch:
    targets = torch.as_tensor(targets)
    size = len(targets)
    return Batch(
        crops=torch.zeros(size, 1, 3, *targets.shape[2:]), sample_seed=torch.zeros(size, dtype=torch.int64),
        group_id=("g",) * size, targets=targets,
    )  # fmt: skip


def test_cross_entropy__void_pixels_do_not_count():
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    loss = dense.cross_entropy(logits, labelled([[[[2, 255], [-1, 0]]]]))
    p = logits.softmax(1)
    assert float(loss) == pytest.approx(-(math.log(p[0, 2, 0, 0]) + math.log(p[0, 0, 1, 1])) / 2, rel=1e-5)
    nothing = logits.requires_grad_()
    empty = dense.cross_entropy(nothing, labelled([[[[255, 255], [-1, 255]]]]))
    empty.backward()
    assert float(empty) == 0 and nothing.grad.abs().sum() == 0


def test_cross_entropy__weights():
    logits = torch.zeros(1, 2, 1, 2)
    assert float(dense.cross_entropy(logits, labelled([[[[0, 1]]]]), (1.0, 5.0))) == pytest.approx(3 * math.log(2))


def write_label(folder, label):
    folder.mkdir()
    np.save(folder / "label.npy", np.array(label, np.uint8)[None])
    np.save(folder / "native.npy", np.array(label, np.uint8))
    return folder


def one_hot(classes, k):
    return np.moveaxis(np.eye(k, dtype=np.float32)[np.array(classes)], -1, 0)


def test_score_and_pool__worked_out_by_hand(tmp_path):
    head, k = HEADS["road_scene"], 11
    first = write_label(tmp_path / "a", [[0, 0, 3, 255]])
    second = write_label(tmp_path / "b", [[3, 3, 3, 8]])
    metrics, detail = head.score(one_hot([[0, 3, 3, 8]], k), first, first)
    # sky 1/2, road 1/2; the car lies on a void pixel
    assert metrics == pytest.approx(
        {"frame_iou": 0.5, "frame_accuracy": 2 / 3, "free_row_error": math.nan}, nan_ok=True
    )
    assert head.primary_score(one_hot([[0, 3, 3, 8]], k), first, first) == pytest.approx(0.5)
    other, other_detail = head.score(one_hot([[3, 3, 1, 8]], k), second, second)
    assert other["frame_iou"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    pooled = head.pool([detail, other_detail])
    # sky 1/2, building 0/1, road 3/5, car 1/1: not the mean of the frames
    assert pooled == pytest.approx({"miou": (0.5 + 0 + 0.6 + 1) / 4, "pixel_accuracy": 5 / 7})
    assert pooled["miou"] != pytest.approx((metrics["frame_iou"] + other["frame_iou"]) / 2)
    found = head.summarise([detail, other_detail])["iou"]
    assert found["Sky"] == 0.5 and found["Road"] == 0.6 and found["Tree"] is None


def test_score__nothing_labelled_is_undefined(tmp_path):
    folder = write_label(tmp_path / "a", [[255, 255]])
    metrics, detail = HEADS["road_scene"].score(one_hot([[0, 1]], 11), folder, folder)
    assert np.isnan(metrics["frame_iou"]) and np.isnan(HEADS["road_scene"].pool([detail])["miou"])


class BrightIsLast(nn.Module):
    """The last class where the picture is bright, the first elsewhere."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.gain = classes, nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        logits = torch.zeros(x.shape[0], self.classes, *x.shape[2:])
        logits[:, -1] = self.gain * x.mean(1)
        return logits


def test_predict_frame__on_the_sources_pixels(frames):
    prediction = HEADS["road_scene"].predict(BrightIsLast(11), frames.entries[0], frames.contract)
    shown = np.load(frames.entries[0] / "frames.npy")[0]
    assert prediction.shape == (11, 240, 320) and prediction.dtype == np.float32
    assert np.allclose(prediction.sum(0), 1, atol=1e-4)
    stored = dense.probabilities(BrightIsLast(11), shown, frames.contract, shown.shape[:2])
    bright = (shown / 255 - [0.485, 0.456, 0.406]).mean(-1)
    assert ((stored.argmax(0) == 10) == (bright > 0))[np.abs(bright) > 0.1].all()


class MeanIsLast(nn.Module):
    """The last class everywhere where the mean of what it is shown is bright: it tells what was seen at once."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        logits = torch.zeros(x.shape[0], 11, *x.shape[2:])
        logits[:, -1] = self.gain * x.mean((1, 2, 3))[:, None, None]
        return logits


def test_probabilities__a_frame_is_seen_whole_and_its_edges_stay_in_place(frames):
    half = np.zeros((120, 150, 3), np.uint8)
    half[:, :90] = 255  # bright on the whole; a window at its right edge would be dark
    prediction = dense.probabilities(MeanIsLast(), half, frames.contract, (240, 300))
    assert prediction.shape == (11, 240, 300) and (prediction.argmax(0) == 10).all()
    edges = dense.probabilities(BrightIsLast(11), half, frames.contract, (120, 150)).argmax(0) == 10
    assert edges[:, :90].all() and not edges[:, 90:].any()


def test_write_mask__is_a_label_that_can_be_learned(frames, tmp_path):
    head, out = HEADS["road_scene"], tmp_path
    prediction = head.trivial(frames.entries[0], frames.contract)
    head.write_mask(prediction, frames.entries[0], out, frames.contract)
    metrics, _ = head.score(prediction, frames.entries[0], out)
    assert metrics == {"frame_iou": 1, "frame_accuracy": 1, "free_row_error": 0}
    assert np.load(out / "label.npy").shape == (1, *open_entry(frames.entries[0]).shape)


def test_write_mask__of_a_recording_labels_its_middle_frame(clips, tmp_path):
    entry = open_entry(clips.entries[0])
    classes = np.full(entry.grid.native_shape, 4)
    HEADS["road_scene"].write_mask(one_hot(classes, 11), clips.entries[0], tmp_path, clips.contract)
    label = np.load(tmp_path / "label.npy")
    assert len(label) == len(entry) and np.flatnonzero((label != 255).any((1, 2))).tolist() == [len(entry) // 2]


def test_free_space__error_against_the_mask_and_what_is_written_and_drawn(tmp_path):
    street = np.full((100, 150), 3)
    street[:50] = 0
    blocked = street.copy()
    blocked[60:70] = 8
    label = write_label(tmp_path / "a", blocked)
    metrics, _ = HEADS["road_scene"].score(one_hot(street, 11), label, label)
    assert metrics["free_row_error"] == 20  # 50 rows against 30
    seen = road_scene.Scene(blocked.astype(np.uint8), 1.0)
    assert road_scene.as_json(seen) == {"free_rows": 30, "rows": 100, "road_share": 0.4}
    frame = np.full((100, 150, 3), 90, np.uint8)
    drawn = road_scene.drawn(frame, seen, None)
    plain = show.coloured(frame, blocked.astype(np.uint8))
    changed = np.flatnonzero((drawn != plain).any((1, 2)))
    assert changed.min() in (69, 70) and changed.max() == 99


def test_of_frames__classes_on_the_sources_pixels(frames):
    stored = open_entry(frames.entries[0]).read([0])
    [(classes, confidence)] = road_scene.of_frames(BrightIsLast(11), stored, frames.contract, (120, 160))
    assert 0.5 < confidence <= 1
    assert classes.shape == (120, 160) and classes.dtype == np.uint8 and set(np.unique(classes)) <= {0, 10}


def test_trivial__knows_something_and_not_everything(frames):
    prediction = HEADS["road_scene"].trivial(frames.entries[0], frames.contract)
    metrics, _ = HEADS["road_scene"].score(prediction, frames.entries[0], frames.labels[0])
    assert 0.1 < metrics["frame_iou"] < 0.5
