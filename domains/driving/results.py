"""A prediction on a still as files on the source's own pixels: a mask in colours, lanes or boxes, and an overlay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from domains.domain import Candidate
from domains.driving import show
from domains.driving.classes import CLASSES, ROAD_COLOURS
from domains.driving.heads import lanes, obstacles, road_scene
from domains.driving.readers import image_frames
from domains.head import Evidence, Prediction
from domains.manifest import Contract


def write_prediction(
    candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path, evidence: Evidence | None = None
) -> list[Path]:
    """Writes what was found in a still below the folder, under its name in the source; recordings: `stream.py`.

    Of a road scene `<name>_prediction.png`, a mask with a palette whose values are the classes and whose colours are
    the legend's, and `<name>_prediction.json` with its free space; lanes as a line of JSON in `<name>.lanes.jsonl`,
    which can be a label file as it is, boxes as one in `<name>.boxes.jsonl`; of each `<name>_overlay.png`.

    Args:
        candidate: whose file is drawn on.
        prediction: (K, H, W) of the road scene; lanes (1, slots, rows, 3); boxes (N, 7).
        contract: of the model.
        folder: where to write.
        evidence: none: the prediction is where.
    """
    place = folder / candidate.name
    place.parent.mkdir(parents=True, exist_ok=True)
    [frame] = image_frames(list(candidate.images.values()), [0.0])
    overlay = place.with_name(f"{place.name}_overlay.png")
    if prediction.ndim == 2:
        boxes = obstacles.on_frame(prediction, 0)
        Image.fromarray(obstacles.drawn(frame.rgb, boxes, contract)).save(overlay)
        return [_line(place, "boxes", obstacles.as_json(boxes)), overlay]
    if contract.num_classes == len(CLASSES["lanes"]):
        [found] = prediction
        Image.fromarray(lanes.drawn(frame.rgb, found, contract)).save(overlay)
        return [_line(place, "lanes", lanes.as_json(found)), overlay]
    scene = road_scene.scene(prediction)
    mask = _save(place.with_name(f"{place.name}_prediction.png"), scene.classes)
    figures = place.with_name(f"{place.name}_prediction.json")
    figures.write_text(json.dumps(road_scene.as_json(scene), indent=1) + "\n")
    overlay.write_bytes(show.with_legend({"prediction": road_scene.drawn(frame.rgb, scene, contract)}))
    return [mask, figures, overlay]


def _line(place: Path, kind: str, found: dict[str, object]) -> Path:
    path = place.with_name(f"{place.name}.{kind}.jsonl")
    path.write_text(json.dumps({"frame": 0, "pts_seconds": 0.0, **found}) + "\n")
    return path


def _save(path: Path, classes: np.ndarray) -> Path:
    image = Image.fromarray(classes, mode="P")
    image.putpalette([value for colour in ROAD_COLOURS.values() for value in colour])
    image.save(path)
    return path
