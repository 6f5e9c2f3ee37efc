"""The road scene head: what every pixel of a frame is, judged by IoU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from domains.driving import show
from domains.driving.classes import ROAD_CLASSES
from domains.driving.entries import open_entry
from domains.driving.heads import dense
from domains.head import Head, Prediction
from domains.manifest import Contract


def road_below(entry: Path, contract: Contract) -> Prediction:
    """(K, H, W): sky in the upper third, buildings in the middle, road in the lower one, whatever the frame shows."""
    height, width = open_entry(entry).grid.native_shape
    prediction = np.zeros((contract.num_classes, height, width), np.float32)
    edges = [0, height // 3, 2 * height // 3, height]
    for name, top, bottom in zip(("Sky", "Building", "Road"), edges, edges[1:], strict=False):
        prediction[ROAD_CLASSES.index(name), top:bottom] = 1
    return prediction


def score(prediction: Prediction, entry: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of one frame over its labelled pixels: "frame_iou", "frame_accuracy"; the counts for `dense.pool`.

    "frame_iou" is the mean over the classes that the frame has or is said to have: a few wrong pixels of a class that
    is not there cost as much as a class missed, so that it lies below the "miou" of all frames together.
    """
    counts = dense.confusion(prediction, label)
    figures = {"frame_iou": dense.mean_iou(counts), "frame_accuracy": dense.accuracy(counts)}
    return figures, {"confusion": counts.tolist()}


def frame_iou(prediction: Prediction, entry: Path, label: Path) -> float:
    """The "frame_iou" of `score` by itself."""
    return score(prediction, entry, label)[0]["frame_iou"]


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
    picture=show.judged,
    accounting=("The thirds of the trivial competitor were not fitted to anything.",),
    pool=dense.pool,
    write_mask=dense.write_mask,
    counts_subjects=True,
)
