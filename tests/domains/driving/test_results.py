"""Predictions as files: masks of the source's own size whose values are classes, and pictures that open."""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image

from domains.driving import DOMAIN, show
from domains.driving.classes import ROAD_COLOURS
from domains.driving.heads import HEADS
from domains.driving.lane_labels import read_json_lines, shapes_of
from domains.driving.lanes import known, present
from domains.driving.recipes import RECIPES


def test_write_prediction__a_frame(generated, frames, tmp_path):
    candidate = DOMAIN.scan(generated, RECIPES["road_scene"]).candidates[8]
    prediction = HEADS["road_scene"].trivial(frames.entries[0], frames.contract)
    mask, figures, overlay = DOMAIN.write_prediction(candidate, prediction, frames.contract, tmp_path)
    image = Image.open(mask)
    assert image.size == (320, 240) and np.array_equal(np.asarray(image), prediction.argmax(0))
    assert image.convert("RGB").getpixel((0, 0)) == ROAD_COLOURS["Sky"]
    assert mask.relative_to(tmp_path).as_posix() == f"{candidate.name}_prediction.png"
    assert Image.open(overlay).size[0] >= 320
    assert json.loads(figures.read_text()) == {"free_rows": 79, "rows": 240, "road_share": 0.3333}


def test_stream__lanes_of_a_recording_are_a_label_file(generated, clips, tmp_path):
    candidate = DOMAIN.scan(generated, clips.recipe).candidates[0]
    prediction, clips_seen = HEADS["lanes"].trivial(clips.entries[0], clips.contract), []

    def told(frames, native_shape):
        clips_seen.append(len(frames))
        return [prediction[min(8 * (len(clips_seen) - 1) + n, 9)] for n in range(len(frames))]

    _video, lines, *_ = DOMAIN.stream(candidate, told, clips.contract, clips.recipe, tmp_path)
    said = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [one["pts_seconds"] for one in said] == [round(n / 10, 6) for n in range(10)]
    again = shapes_of(read_json_lines(lines), range(10), 10)
    assert again.labelled.tolist() == list(range(10))
    for frame, wanted in enumerate(prediction):
        lanes = [lane for _, lane in present(wanted)]
        assert len(lanes) == len(again.on(frame)) > 0
        for lane, shape in zip(lanes, again.on(frame), strict=True):
            points = known(shape)
            assert np.abs(points[:, 0] - np.interp(points[:, 1], lane[:, 1], lane[:, 0])).max() < 0.1


def test_write_prediction__lanes_of_a_still(generated, lane_frames, tmp_path):
    candidate = DOMAIN.scan(generated, lane_frames.recipe).candidates[3]
    prediction = HEADS["lanes"].trivial(lane_frames.entries[3], lane_frames.contract)
    lines, overlay = DOMAIN.write_prediction(candidate, prediction, lane_frames.contract, tmp_path)
    assert lines.relative_to(tmp_path).as_posix() == f"{candidate.name}.lanes.jsonl"
    assert shapes_of(read_json_lines(lines), range(1), 1).labelled.tolist() == [0]
    changed = np.asarray(Image.open(overlay)) != np.asarray(Image.open(candidate.images["frame"]))
    assert changed.any() and changed.shape == (240, 320, 3)


def test_write_prediction__boxes_are_lines_of_json(generated, frames, tmp_path):
    candidate = DOMAIN.scan(generated, RECIPES["dashcam_obstacles"]).candidates[8]
    boxes = np.array([[0, 1, 0.9, 10, 20, 50, 90], [0, 0, 0.05, 1, 1, 9, 9]], np.float32)
    lines, overlay = DOMAIN.write_prediction(candidate, boxes, frames.contract, tmp_path)
    assert lines.relative_to(tmp_path).as_posix() == f"{candidate.name}.boxes.jsonl"
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [
        {"frame": 0, "pts_seconds": 0.0, "boxes": [{"class": "pedestrian", "score": 0.9, "box": [10, 20, 50, 90]}]}
    ]
    changed = np.asarray(Image.open(overlay)) != np.asarray(Image.open(candidate.images["frame"]))
    assert changed[55, 10].any() and not changed[55, 30].any() and changed.shape == (240, 320, 3)


def test_panels__a_clip_is_a_strip_of_frames():
    flat = show.panels({"a": np.random.rand(2, 1, 32, 48)})
    strip = show.panels({"a": np.random.rand(2, 1, 8, 32, 48), "b": np.zeros((2, 1, 8, 32, 48))})
    wide, tall = Image.open(io.BytesIO(strip)).size
    assert wide / tall > 2 * Image.open(io.BytesIO(flat)).size[0] / Image.open(io.BytesIO(flat)).size[1]


def test_pictures__of_recordings(clips):
    prediction = HEADS["lanes"].trivial(clips.entries[0], clips.contract)
    for png in (
        DOMAIN.picture(clips.entries[0]),
        HEADS["lanes"].picture(clips.entries[0], prediction, clips.labels[0]),
        HEADS["lanes"].picture(clips.entries[0], prediction, None),
    ):
        assert png.startswith(b"\x89PNG")
