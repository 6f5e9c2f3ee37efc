"""Generated archives: every recipe reads them, files agree with each other, the same for the same seed."""

import json
import time

import av
import numpy as np
import pytest
from PIL import Image

from domains.driving import DOMAIN
from domains.driving.classes import ROAD_CLASSES
from domains.driving.entries import open_entry
from domains.driving.generate import RATES, generate, lane_rows, write_recording
from domains.driving.recipes import RECIPES
from domains.driving.shapes import open_shapes


def whole(folder):
    entry = open_entry(folder)
    return entry.read(range(len(entry)))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    started = time.process_time()
    scene, times = write_recording(folder, "road", [5, 2], 3.5, seconds=4.5)
    seconds = time.process_time() - started
    print(f"{len(times) / seconds:.0f} frames/s at {scene.camera.shape}, drawn and encoded")
    return folder, scene, times


def test_generate__frames_and_sequences_of_one_folder(generated):
    frames = DOMAIN.scan(generated, RECIPES["road_scene"])
    clips = DOMAIN.scan(generated, RECIPES["dashcam_lanes"].changed({"data.clip_frames": "8"}))
    assert len(frames.candidates) == 20 and {c.group for c in frames.candidates} == {"drive000", "drive001"}
    assert len(clips.candidates) == 2 and all(c.label for c in (*frames.candidates, *clips.candidates))


def test_generate__lanes_lie_on_bright_paint(lane_frames):
    """Where a solid line has just been labelled in the lower half, its pixel is brighter than what lies beside it."""
    ratios = []
    for entry, label in zip(lane_frames.entries[::3], lane_frames.labels[::3], strict=True):
        [frame] = whole(entry).mean(-1)
        for shape in open_shapes(label).on(0):
            for x, y in shape.points[np.isfinite(shape.points[:, 0])]:
                if y > frame.shape[0] / 2 and 8 <= x < frame.shape[1] - 8:
                    row = frame[int(y)]
                    ratios.append(row[int(x)] / (1 + np.median(row[int(x) - 8 : int(x) + 9])))
    assert len(ratios) > 100 and np.mean(ratios) > 1.2


def test_generate__the_camera_moves(clips):
    frames = whole(clips.entries[0]).astype(float)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert steps.min() > 2
    assert np.abs(frames[9] - frames[0]).mean() > 1.2 * steps.mean()


def test_generate__classes_are_as_in_streets(generated):
    values = np.concatenate(
        [np.unique(np.asarray(Image.open(path))) for path in sorted((generated / "masks").iterdir())]
    )
    assert {"Sky", "Building", "Road", "Pavement", "Tree", "Pole", "Car"} <= {ROAD_CLASSES[v] for v in values if v < 11}


def test_generate__boxes_of_frames_lie_on_their_class(generated):
    coco = json.loads((generated / "boxes_coco.json").read_text())
    kinds = {"vehicle": "Car", "pedestrian": "Pedestrian", "cyclist": "Bicyclist"}
    names = {one["id"]: kinds[one["name"]] for one in coco["categories"]}
    images = {one["id"]: one["file_name"] for one in coco["images"]}
    assert len(images) == 20 and len(coco["annotations"]) > 20
    for box in coco["annotations"]:
        mask = np.asarray(Image.open(generated / images[box["image_id"]].replace("images", "masks")))
        x, y, wide, tall = box["bbox"]
        inside = mask[y : y + tall, x : x + wide] == ROAD_CLASSES.index(names[box["category_id"]])
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_recording__files_agree(recording):
    folder, scene, times = recording
    with av.open(str(folder / "road.mp4")) as container:
        stream = container.streams.video[0]
        frames = [frame for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.height, stream.width) == ("h264", *scene.camera.shape)
    rate = 1 / (times[1] - times[0])
    assert round(rate) in RATES and abs(len(times) / rate - 4.5) <= 1 / rate
    assert [round(frame.time * rate) for frame in frames] == list(range(len(times)))
    lines = [json.loads(line) for line in (folder / "road.lanes.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(times)))
    assert lines[0]["h_samples"] == lane_rows(scene.camera.shape[0]) and any(line["lanes"] for line in lines)
    coco = json.loads((folder / "road.boxes.json").read_text())
    assert [image["frame"] for image in coco["images"]] == list(range(len(times)))


def test_recording__telemetry_has_its_own_clock_and_rate(recording):
    folder, _, times = recording
    lines = (folder / "road.telemetry.csv").read_text().splitlines()
    assert lines[0] == "seconds,speed_m_per_s,steering_degrees,yaw_rate_degrees_per_s"
    stamps = np.array([float(line.split(",")[0]) for line in lines[1:]])
    steps = np.diff(stamps)
    assert abs(np.median(steps) - 1 / 50) < 0.002 and (steps <= 0).sum() >= 1 and steps.max() > 0.6
    assert any(",," in line or line.endswith(",") for line in lines)
    assert -1.3 < stamps.min() + 3.5 < 0.4 and stamps.max() + 3.5 > times[-1] - times[0] - 1.5


@pytest.mark.slow
def test_generate__same_seed_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setitem(generate.__globals__, "SECONDS", (4.0, 4.5))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / name, 20, seed)
    a, b, c = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in sorted(tmp_path.iterdir())
    )
    assert a == b and a.keys() == c.keys()
    assert not [name for name, data in c.items() if name.suffix in (".png", ".mp4") and data == a[name]]
