"""A prediction as files on the source's own pixels: masks in colours, lanes or boxes, an overlay, times."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from domains.domain import Candidate
from domains.driving import show
from domains.driving.classes import CLASSES, ROAD_COLOURS
from domains.driving.heads import lanes, obstacles, road_scene
from domains.driving.readers import Frame, image_frames
from domains.driving.video import video_frames
from domains.head import Evidence, Prediction
from domains.manifest import Contract


def write_prediction(
    candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path, evidence: Evidence | None = None
) -> list[Path]:
    """Writes masks and an overlay of one subject below the folder, under its name in the source.

    A mask is a PNG with a palette: its values are the classes, its colours the legend's. A frame gives
    `<name>_prediction.png`, `<name>_prediction.json` with its free space, and `<name>_overlay.png`. What a
    recording gives is in `stream.py`.

    Lanes are lines of JSON, one a frame, in `<name>.lanes.jsonl`, which can be a label file as it is; boxes are such
    lines in `<name>.boxes.jsonl`.

    Args:
        candidate: whose files give the size.
        prediction: (K, H, W) of the road scene; lanes (T, slots, rows, 3); boxes (N, 7).
        contract: of the model.
        folder: where to write.
        evidence: none: the mask is where.
    """
    place = folder / candidate.name
    place.parent.mkdir(parents=True, exist_ok=True)
    if prediction.ndim == 2:
        return _write_boxes(candidate, prediction, contract, place)
    overlay = place.with_name(f"{place.name}_overlay.png")
    if contract.num_classes == len(CLASSES["lanes"]):
        return _write_lanes(candidate, prediction, contract, place, overlay)
    scene = road_scene.scene(prediction)
    [frame] = image_frames(list(candidate.images.values()), [0.0])
    mask = _save(place.with_name(f"{place.name}_prediction.png"), scene.classes)
    figures = place.with_name(f"{place.name}_prediction.json")
    figures.write_text(json.dumps(road_scene.as_json(scene), indent=1) + "\n")
    overlay.write_bytes(show.with_legend({"prediction": road_scene.drawn(frame.rgb, scene, contract)}))
    return [mask, figures, overlay]


def _write_boxes(candidate: Candidate, prediction: Prediction, contract: Contract, place: Path) -> list[Path]:
    path, overlay = place.with_name(f"{place.name}.boxes.jsonl"), place.with_name(f"{place.name}_overlay.png")
    middle = int(prediction[:, 0].max(initial=0)) // 2
    lines, first = [], None
    for number, frame in enumerate(_frames(candidate)):
        first = frame.seconds if first is None else first
        boxes = obstacles.on_frame(prediction, number)
        about = {"frame": number, "pts_seconds": round(frame.seconds - first, 6)}
        lines.append(json.dumps(about | obstacles.as_json(boxes)))
        if number == middle:
            Image.fromarray(obstacles.drawn(frame.rgb, boxes, contract)).save(overlay)
    path.write_text("\n".join(lines) + "\n")
    return [path, overlay]


def _write_lanes(
    candidate: Candidate, prediction: Prediction, contract: Contract, place: Path, overlay: Path
) -> list[Path]:
    lines, first = [], None
    for number, frame in enumerate(_frames(candidate)):
        first = frame.seconds if first is None else first
        about = {"frame": number, "pts_seconds": round(frame.seconds - first, 6)}
        lines.append(json.dumps(about | lanes.as_json(prediction[number])))
        if number == len(prediction) // 2:
            Image.fromarray(lanes.drawn(frame.rgb, prediction[number], contract)).save(overlay)
    path = place.with_name(f"{place.name}.lanes.jsonl")
    path.write_text("\n".join(lines) + "\n")
    return [path, overlay]


def _frames(candidate: Candidate) -> Iterable[Frame]:
    if "video" in candidate.images:
        return video_frames(candidate.images["video"], Counter())
    return image_frames(list(candidate.images.values()), candidate.notes.get("seconds", (0.0,)))


def _save(path: Path, classes: np.ndarray) -> Path:
    image = Image.fromarray(classes, mode="P")
    image.putpalette([value for colour in ROAD_COLOURS.values() for value in colour])
    image.save(path)
    return path
