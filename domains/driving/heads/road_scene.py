"""The road scene head: what every pixel of a frame is, judged by IoU, and from it how far the road ahead is free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from domains.driving import free_space, show
from domains.driving.classes import ROAD_CLASSES, VOID
from domains.driving.entries import judged_label, open_entry
from domains.driving.heads import dense
from domains.head import Evidence, Head, Prediction
from domains.manifest import Contract


class Scene(NamedTuple):
    """What is in one frame of a stream."""

    classes: np.ndarray
    """(H, W) uint8 the likeliest class of every pixel of the source."""
    confidence: float


def of_frames(model: nn.Module, frames: np.ndarray, contract: Contract, native_shape: tuple[int, int]) -> list[Scene]:
    """What is in each frame, on the source's pixels.

    Args:
        model: crops -> logits.
        frames: (N, H, W, 3) uint8 on the stored grid.
        contract: of the model.
        native_shape: (H, W) of the source.
    """
    found = (dense.probabilities(model, frame, contract, native_shape) for frame in frames)
    return [scene(each) for each in found]


def scene(prediction: Prediction) -> Scene:
    """Of the probabilities (K, H, W) of a frame."""
    return Scene(prediction.argmax(0).astype(np.uint8), float(prediction.max(0).mean()))


def drawn(frame: np.ndarray, prediction: Scene, contract: Contract) -> np.ndarray:
    """(H, W, 3) uint8: a frame of the source in the colours of its classes, and where the corridor ahead is free."""
    return show.with_corridor(show.coloured(frame, prediction.classes), free_space.free_rows(prediction.classes))


def as_json(prediction: Scene) -> dict[str, Any]:
    """How many rows from the bottom the road ahead is free, of how many, and the share of the frame that is road."""
    classes = prediction.classes
    road = round(float((classes == free_space.ROAD).mean()), 4)
    return {"free_rows": free_space.free_rows(classes), "rows": len(classes), "road_share": road}


def confidence(prediction: Scene) -> float:
    """0..1, how sure a frame is: the mean probability of the likeliest class."""
    return prediction.confidence


def road_below(entry: Path, contract: Contract) -> Prediction:
    """(K, H, W): sky in the upper third, buildings in the middle, road in the lower one, whatever the frame shows."""
    height, width = open_entry(entry).grid.native_shape
    prediction = np.zeros((contract.num_classes, height, width), np.float32)
    edges = [0, height // 3, 2 * height // 3, height]
    for name, top, bottom in zip(("Sky", "Building", "Road"), edges, edges[1:], strict=False):
        prediction[ROAD_CLASSES.index(name), top:bottom] = 1
    return prediction


def score(prediction: Prediction, entry: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of one frame: "frame_iou", "frame_accuracy" over its labelled pixels; the counts for `dense.pool`.

    "free_row_error" is by how many rows of the source the free space differs from that of the label, whose unlabelled
    pixels count for neither; nan where the label's own corridor is not labelled.

    "frame_iou" is the mean over the classes that the frame has or is said to have: a few wrong pixels of a class that
    is not there cost as much as a class missed, so that it lies below the "miou" of all frames together.
    """
    counts = dense.confusion(prediction, label)
    figures = {"frame_iou": dense.mean_iou(counts), "frame_accuracy": dense.accuracy(counts)}
    figures["free_row_error"] = _free_row_error(prediction, judged_label(label))
    return figures, {"confusion": counts.tolist()}


def _free_row_error(prediction: Prediction, reference: np.ndarray) -> float:
    if (reference[free_space.corridor((reference.shape[0], reference.shape[1]))] == VOID).all():
        return float("nan")
    rows = free_space.free_rows(prediction.argmax(0).astype(np.uint8)), free_space.free_rows(reference)
    return float(abs(rows[0] - rows[1]))


def frame_iou(prediction: Prediction, entry: Path, label: Path) -> float:
    """The "frame_iou" of `score` by itself."""
    return dense.mean_iou(dense.confusion(prediction, label))


def picture(folder: Path, prediction: Prediction, label: Path | None, evidence: Evidence | None = None) -> bytes:
    """PNG of a frame (of a recording its middle one) as it is, as predicted and as labelled, with its free space."""
    entry, shape = open_entry(folder), (prediction.shape[1], prediction.shape[2])
    frame = show.enlarged(entry.read([len(entry) // 2])[0], shape)
    columns = {"frame": frame}
    for name, classes in (("prediction", prediction.argmax(0).astype(np.uint8)), ("reference", _read(label))):
        if classes is not None:
            rows = free_space.free_rows(classes)
            columns[f"{name}, {rows} rows free"] = show.with_corridor(show.coloured(frame, classes), rows)
    return show.with_legend(columns)


def _read(label: Path | None) -> np.ndarray | None:
    return None if label is None else judged_label(label)


def summarise(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """IoU of each class over all frames together; None for a class that no frame has."""
    if not details:
        return {}
    each = dense.iou(dense.pooled_confusion(details))
    named = zip(ROAD_CLASSES, each, strict=True)
    return {"iou": {name: round(float(value), 4) if np.isfinite(value) else None for name, value in named}}


HEAD = Head(
    name="road_scene",
    primary_metric="miou",
    case_metric="frame_iou",
    loss=dense.cross_entropy,
    predict=dense.predict_frame,
    trivial=road_below,
    trivial_name="sky over buildings over road",
    score=score,
    primary_score=frame_iou,
    summarise=summarise,
    picture=picture,
    of_frames=of_frames,
    accounting=("The thirds of the trivial competitor were not fitted to anything.",),
    pool=dense.pool,
    write_mask=dense.write_mask,
    counts_subjects=True,
)
