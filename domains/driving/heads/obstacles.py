"""The obstacles head: boxes around vehicles, pedestrians and cyclists on every frame, judged as COCO does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from domains.driving import box_pictures, coco, show
from domains.driving.box_labels import rows_of
from domains.driving.classes import OBSTACLES
from domains.driving.entries import open_entry
from domains.driving.heads.whole_frames import logits_of
from domains.driving.recipes import settings
from domains.driving.shapes import Shape, Shapes, corners, judged_shapes
from domains.errors import RecipeError
from domains.head import Evidence, Head, Prediction
from domains.manifest import Contract
from domains.recipe import Recipe
from ssl_models.protocols import Batch

MOST_BOXES = 64
"""Objects of a crop that are learned from, the largest; a batch needs as many rows for each crop."""
VISIBLE = 0.35
"""Of an object's area: where a crop shows less of it, nothing found there is wrong."""
SHOWN, LISTED = 0.3, 0.1
"""Least scores of what is drawn, and of what is written down."""
TAKEN = 0.5
"""Least score of a box that is trained on as if it were labelled; below it, from `SHOWN` on, nobody looks."""
AT_ONCE = 8
"""Frames."""
DARKER, ASPECT = 0.25, 0.8
"""Than the road, as a share of it, where the competitor sees a vehicle's shadow; height of a vehicle by its width."""


def decoder(encoder: Any, classes: int) -> nn.Module:
    """Heat and distances on the encoder's maps.

    Raises:
        RecipeError: crops are clips.
    """
    from ssl_models.decoders.centres import CentreDecoder  # seconds that only this head needs

    if encoder.spatial_axes != 2:
        raise RecipeError("boxes are found on single frames: set data.clip_frames=0")
    return CentreDecoder(widths=encoder.widths, strides=encoder.strides, classes=classes)


def targets(shapes: Sequence[Shape], crop: tuple[int, int]) -> np.ndarray:
    """(MOST_BOXES, 5) float32 class, x1, y1, x2, y2 of a crop's objects, cut off at its edges, the largest first.

    Args:
        shapes: four corners each, in pixels of the crop.
        crop: (H, W).
    """
    from ssl_models.decoders.centres import IGNORED, PADDING

    rows, limit = rows_of(shapes), np.array([crop[1], crop[0]] * 2, np.float32)
    cut = np.concatenate([rows[:, :1], rows[:, 1:].clip(0, limit)], 1)
    whole, seen = _area(rows), _area(cut)
    cut[(rows[:, 0] < 0) | (seen < VISIBLE * whole), 0] = IGNORED
    cut, seen = cut[seen > 0], seen[seen > 0]
    found = np.full((MOST_BOXES, 5), PADDING, np.float32)
    largest = cut[np.argsort(-seen, kind="stable")][:MOST_BOXES]
    found[: len(largest)] = largest
    return found


def _area(rows: np.ndarray) -> np.ndarray:
    return (rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])


def loss(logits: Tensor, batch: Batch) -> Tensor:
    """() loss of the decoder's maps against the rows of `targets`."""
    from ssl_models.decoders.centres import centre_loss

    assert batch.targets is not None, "a head learns from labelled batches"
    return centre_loss(logits, batch.targets, batch.crops.shape[-1] // logits.shape[-1])


def of_frames(
    model: nn.Module, frames: np.ndarray, contract: Contract, native_shape: tuple[int, int]
) -> list[np.ndarray]:
    """Boxes of each frame: (N, 6) float32 class, score in [0, 1], x1, y1, x2, y2 in pixels of the source, best first.

    Args:
        model: encoder and `decoder`.
        frames: (N, H, W, 3) uint8 on the stored grid, which are seen whole.
        contract: of the model.
        native_shape: (H, W) of the source.
    """
    from ssl_models.decoders.centres import found_boxes

    size = frames.shape[1], frames.shape[2]
    logits, stride = logits_of(model, frames, contract)
    scale = torch.tensor([native_shape[1] / size[1], native_shape[0] / size[0]] * 2)
    found = found_boxes(logits, stride, size)
    return [torch.cat([each[:, :2], each[:, 2:] * scale], 1).numpy() for each in found]


def predict(model: nn.Module, folder: Path, contract: Contract) -> Prediction:
    """(N, 7) float32: number of the frame, then its boxes as `of_frames` gives them."""
    entry, each = open_entry(folder), [np.zeros((0, 7), np.float32)]
    for start in range(0, len(entry), AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, len(entry)))
        found = of_frames(model, entry.read(numbers), contract, entry.grid.native_shape)
        each += [_numbered(number, boxes) for number, boxes in zip(numbers, found, strict=True)]
    return np.concatenate(each)


def _numbered(frame: int, boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full((len(boxes), 1), frame, np.float32), boxes], 1)


def on_frame(prediction: Prediction, frame: int) -> np.ndarray:
    """(N, 6) the boxes of one frame of a prediction (N, 7)."""
    return prediction[prediction[:, 0] == frame, 1:]


def drawn(
    frame: np.ndarray, prediction: np.ndarray, contract: Contract, classes: Sequence[str] = OBSTACLES
) -> np.ndarray:
    """(H, W, 3) uint8: a frame of the source with the boxes of one frame, as far as they are likely."""
    return box_pictures.boxes_drawn(frame, prediction[prediction[:, 1] >= SHOWN], classes)


def as_json(prediction: np.ndarray, classes: Sequence[str] = OBSTACLES) -> dict[str, Any]:
    """Boxes of one frame, the best first: class, score, and x1, y1, x2, y2 in pixels of the source."""
    return {
        "boxes": [
            {"class": classes[int(kind)], "score": round(score, 4), "box": [round(side, 1) for side in box]}
            for kind, score, *box in prediction[prediction[:, 1] >= LISTED].tolist()
        ]
    }


def confidence(prediction: np.ndarray) -> float:
    """0..1, how sure a frame's boxes are: 1 / (1 + doubts), a doubt being 1 for a score of a half and 0 for 0 or 1."""
    return float(1 / (1 + (1 - np.abs(2 * prediction[:, 1] - 1)).sum()))


def dark_patches(folder: Path, contract: Contract) -> Prediction:
    """(N, 7) a vehicle over each patch that is a quarter darker than the road, in the middle of the lower half.

    How bright the road is says the median of the strip before the own car. A patch is as wide as a vehicle's shadow;
    the vehicle stands on it and is 0.8 times as high as wide. The score is how much darker the patch is.

    Source: Tzomakas and von Seelen 1998, "Vehicle detection in traffic scenes using shadows" (IR-INI 98-06).
    Differs: one threshold for all rows, and no edges.
    """
    entry, each = open_entry(folder), [np.zeros((0, 7), np.float32)]
    scale = np.tile(np.array(entry.grid.native_shape[::-1]) / np.array(entry.shape[::-1]), 2)
    for number in range(len(entry)):
        grey = entry.read([number])[0].mean(-1) / 255
        boxes = _shadows(ndimage.gaussian_filter(grey, len(grey) / 160))
        boxes[:, 2:] *= scale
        each.append(_numbered(number, boxes.astype(np.float32)))
    return np.concatenate(each)


def _shadows(grey: np.ndarray) -> np.ndarray:
    """(N, 6) in pixels of a grey frame (H, W), best first."""
    height, width = grey.shape
    road = float(np.median(grey[int(0.75 * height) : int(0.92 * height), int(0.3 * width) : int(0.7 * width)]))
    dark = grey < (1 - DARKER) * road
    dark[: height // 2] = dark[int(0.9 * height) :] = False
    dark[:, : width // 8] = dark[:, -width // 8 :] = False
    labelled, _ = ndimage.label(dark)
    rows = []
    for number, patch in enumerate(ndimage.find_objects(labelled), 1):
        bottom, left, right = patch[0].stop, patch[1].start, patch[1].stop
        wide = right - left
        if 0.02 * width < wide < 0.5 * width:
            depth = 1 - float(grey[patch][labelled[patch] == number].mean()) / road
            rows.append([0, depth, left, max(0, bottom - ASPECT * wide), right, bottom])
    rows.sort(key=lambda row: -row[1])
    return np.array(rows[:100], np.float64).reshape(-1, 6)


def score(
    prediction: Prediction, folder: Path, label: Path, classes: Sequence[str] = OBSTACLES
) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of a case over its labelled frames: "frame_ap50", AP at IoU 0.5; the matches for `coco.pool`.

    nan where it has no object: what is found on such frames still counts in the figures of the set.
    """
    reference = judged_shapes(label)
    each = [
        coco.matched(on_frame(prediction, frame), rows_of(reference.on(frame)), len(classes))
        for frame in reference.labelled.tolist()
    ]
    details = coco.joined(each)
    return {"frame_ap50": coco.pool([details])["ap50"]}, details


def frame_ap50(prediction: Prediction, folder: Path, label: Path, classes: Sequence[str] = OBSTACLES) -> float:
    """The "frame_ap50" of `score` by itself."""
    return score(prediction, folder, label, classes)[0]["frame_ap50"]


def summarise(details: Sequence[dict[str, Any]], classes: Sequence[str] = OBSTACLES) -> dict[str, Any]:
    """Average precision of each class over all frames together, and how many objects it has; None where it has none."""
    if not details:
        return {}
    each = coco.precisions(details)
    objects = np.sum([one["objects"] for one in details], axis=0).tolist()
    figures = {
        name: {"ap": _rounded(row.mean()), "ap50": _rounded(row[0]), "objects": count}
        for name, row, count in zip(classes, each, objects, strict=True)
    }
    return {"by": figures, "notes": [NOTE]}


NOTE = "Average precision is COCO's: IoU 0.50 to 0.95, 101 recalls; an object's size is that of its box."


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def picture(
    folder: Path,
    prediction: Prediction,
    label: Path | None,
    evidence: Evidence | None = None,
    classes: Sequence[str] = OBSTACLES,
) -> bytes:
    """PNG of a frame (of a recording: a labelled one near its middle) with what was found, and what is labelled."""
    entry, reference = open_entry(folder), None if label is None else judged_shapes(label)
    known = reference.labelled if reference is not None else np.arange(len(entry))
    at = int(known[np.abs(known - len(entry) // 2).argmin()])
    found = on_frame(prediction, at)
    frame = show.enlarged(entry.read([at])[0], entry.grid.native_shape)
    columns = {"prediction": box_pictures.boxes_drawn(frame, found[found[:, 1] >= SHOWN], classes)}
    if reference is not None:
        labelled = np.insert(rows_of(reference.on(at)), 1, np.nan, axis=1)
        columns["reference"] = box_pictures.boxes_drawn(frame, labelled, classes)
    return show.side_by_side(columns)


def write_mask(prediction: Prediction, folder: Path, out: Path, contract: Contract) -> None:
    """Writes the sure boxes as a label entry of the subject entry `folder`, and unsure ones as areas to be ignored."""
    entry = open_entry(folder)
    shapes = [
        corners(
            Shape(
                int(frame), int(kind) if score >= TAKEN else coco.IGNORED_ALL, np.array(box, np.float32).reshape(2, 2)
            )
        )
        for frame, kind, score, *box in prediction.tolist()
        if score >= SHOWN
    ]
    Shapes(range(len(entry)), shapes).save(out)
    entry.grid.save(out)


def named(head: Head, recipe: Recipe) -> Head:
    """The head with the recipe's classes."""
    classes = settings(recipe).label_classes
    return replace(
        head,
        score=partial(score, classes=classes),
        primary_score=partial(frame_ap50, classes=classes),
        summarise=partial(summarise, classes=classes),
        picture=partial(picture, classes=classes),
    )


HEAD = Head(
    name="obstacles",
    primary_metric="map",
    case_metric="frame_ap50",
    loss=loss,
    predict=predict,
    trivial=dark_patches,
    trivial_name="a vehicle over every dark patch of the road",
    score=score,
    primary_score=frame_ap50,
    summarise=summarise,
    picture=picture,
    of_frames=of_frames,
    named=named,
    decoder=decoder,
    pool=coco.pool,
    accounting=("The settings of the dark patches were set by hand, without a look at any label.",),
    write_mask=write_mask,
    counts_subjects=True,
)
