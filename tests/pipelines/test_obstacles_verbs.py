"""Obstacles from generated streets to a report, a prediction and an exported graph, by the verbs; they are learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driving_files import save_frame

from domains.domain import find_recipe
from domains.driving.generate import write_frames
from pipelines.evaluate import evaluate
from pipelines.export import LARGEST_DIFFERENCE, export
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.predict import predict
from pipelines.pretrain import pretrain
from pipelines.report import write_report

SMALL = {
    "data.height": "120", "data.width": "160", "data.crop_height": "96", "data.crop_width": "128", "fold": "1/3",
    "finetune.steps": "3", "finetune.batch_size": "4", "finetune.warmup_steps": "1",
    "pretrain.steps": "2", "pretrain.batch_size": "2", "pretrain.warmup_steps": "1",
}  # fmt: skip


def drives(folder: Path, frames: int) -> Path:
    """Generated frames with their boxes."""
    write_frames(folder, frames, 3)
    return folder


@pytest.mark.slow
def test_verbs__obstacles_are_judged_reported_written_and_exported(tmp_path: Path) -> None:
    source, home = drives(tmp_path / "source", 30), tmp_path / "home"
    recipe = find_recipe("dashcam_obstacles")[1].changed(SMALL)
    taken = ingest(source, recipe, home)
    assert taken.counts["labels"] == 1 and not taken.refused and not taken.notes
    model = finetune(recipe, home, encoder=None)
    judged = evaluate(model.folder, home)
    result, figures = judged.result, judged.metrics
    assert result["primary"] == "map" and result["ranked_by"] == "frame_ap50"
    assert {"map", "ap50", "ap75", "recall_small", "recall_medium"} <= set(result["pooled"])
    assert 0 <= figures["map"]["mean"] <= 1 and set(result["trivial"]["metrics"]) == set(figures)
    assert set(result["summary"]["by"]) == {"vehicle", "pedestrian", "cyclist"}
    assert "vehicle" in write_report(home, evaluation=judged.folder).read_text()
    frame = sorted((source / "images").glob("*.png"))[0]
    [output] = predict(model.folder, [frame], tmp_path / "out", home)
    lines = Path(output["files"][0]).read_text().splitlines()
    assert len(lines) == 1 and all(0.1 <= box["score"] <= 1 for box in json.loads(lines[0])["boxes"])
    assert export(model.folder, tmp_path / "onnx", home)["parity"] <= LARGEST_DIFFERENCE


@pytest.mark.slow
def test_finetune__from_an_encoder_that_the_road_scene_pretrained(tmp_path: Path) -> None:
    source, home = drives(tmp_path / "source", 30), tmp_path / "home"
    shared = {**SMALL, "data.crop_height": "48", "data.crop_width": "64"}
    road = find_recipe("road_scene")[1].changed(shared)
    ingest(source, road, home)
    encoder = pretrain(road, home).folder
    obstacles = find_recipe("dashcam_obstacles")[1].changed(SMALL)
    ingest(source, obstacles, home)
    model = finetune(obstacles, home, encoder=encoder)
    info = json.loads((model.folder / "model.json").read_text())
    assert info["lineage"]["encoder"]


def test_ingest__what_is_wrong_with_boxes_is_named_on_the_terminal_and_nowhere_else(tmp_path: Path) -> None:
    source = tmp_path / "yard"
    for number in range(3):
        save_frame(source / "images" / f"north_{number}.png", seed=number)
    images = [{"id": n, "file_name": f"images/north_{n}.png"} for n in range(4)]
    boxes = [{"image_id": n, "category_id": 1 + n % 2, "bbox": [60 * n, 0, 20, 20]} for n in range(3)]
    names = [{"id": 1, "name": "car"}, {"id": 2, "name": "tram"}]
    (source / "coco.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
    taken = ingest(source, find_recipe("dashcam_obstacles")[1], tmp_path / "home")
    table = str(source / "coco.json")
    assert taken.refused == [] and sorted(taken.notes) == [
        f"{table}: a box outside the frame of 48 x 64 pixels: images/north_2",
        f"{table}: boxes of 1 frames that are not there: images/north_3.png",
        "boxes that are none of vehicle, pedestrian, cyclist are left out: tram (1)",
    ]
    assert taken.counts["accepted"] == 3 and taken.counts["labels"] == 1 and taken.labels is not None
    assert len(json.loads((taken.labels / "labels.json").read_text())["entries"]) == 2
    assert not [path for path in (tmp_path / "home").rglob("*.json") if "north" in path.read_text()]
