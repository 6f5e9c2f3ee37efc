"""The lanes head on clips: which pixels of each frame lie on a lane marking, drawn from polylines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor

from domains.driving import show
from domains.driving.entries import open_entry
from domains.driving.heads import dense
from domains.head import Head, Prediction
from domains.manifest import Contract
from ssl_models.protocols import Batch

WEIGHTS = (1.0, 5.0)
"""A lane covers a few percent of a frame."""
BRIGHTER = 0.08
"""Than its row's surroundings, of the full range, at which the competitor calls a pixel a lane."""


def loss(logits: Tensor, batch: Batch) -> Tensor:
    """() cross-entropy of logits (B, 2, T, H, W) in which a lane's pixel counts five times, void ones nothing."""
    return dense.cross_entropy(logits, batch, WEIGHTS)


def bright_strips(entry: Path, contract: Contract) -> Prediction:
    """(2, T, H, W): what is brighter than its surroundings in its row, in the lower half of each frame."""
    recording = open_entry(entry)
    grey = recording.read(range(len(recording))).mean(-1, dtype=np.float32) / 255
    around = ndimage.uniform_filter1d(grey, size=max(3, grey.shape[2] // 8), axis=2)
    lane = 1 / (1 + np.exp(-(grey - around - BRIGHTER) * 100))
    lane[:, : grey.shape[1] // 2] = 0
    return np.stack([1 - lane, lane]).astype(np.float32)


def score(prediction: Prediction, entry: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of one recording over its labelled frames: "lane_iou" of the pixels; the counts for `dense.pool`."""
    counts = dense.confusion(prediction, label)
    return {"lane_iou": float(dense.iou(counts)[1])}, {"confusion": counts.tolist()}


def lane_iou(prediction: Prediction, entry: Path, label: Path) -> float:
    """The "lane_iou" of `score` by itself."""
    return score(prediction, entry, label)[0]["lane_iou"]


def summarise(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many pixels were judged."""
    return {"labelled_pixels": int(dense.pooled_confusion(details).sum())} if details else {}


HEAD = Head(
    name="lanes",
    primary_metric="lane_iou",
    loss=loss,
    predict=dense.predict_recording,
    trivial=bright_strips,
    trivial_name="bright strips in the lower half",
    score=score,
    primary_score=lane_iou,
    summarise=summarise,
    picture=show.judged,
    pool=dense.pool,
    write_mask=dense.write_mask,
)
