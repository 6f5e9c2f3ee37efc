"""What the heads with a class per pixel share: loss, inference, confusion and IoU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domains.driving.classes import VOID
from domains.driving.entries import judged_label, open_entry
from domains.driving.heads.whole_frames import logits_of
from domains.driving.preprocess import scaled_label
from domains.head import Prediction
from domains.manifest import Contract
from ssl_models.protocols import Batch


def cross_entropy(logits: Tensor, batch: Batch, weights: Sequence[float] | None = None) -> Tensor:
    """() mean cross-entropy over the labelled pixels, in float32 also under autocast; 0 where none is.

    Args:
        logits: (B, K, *S).
        batch: with targets (B, 1, *S) int64; 255 and negative values are void.
        weights: K, of the classes.
    """
    assert batch.targets is not None, "a head learns from labelled batches"
    target = batch.targets[:, 0]
    target = target.masked_fill(target < 0, VOID)
    with torch.autocast(logits.device.type, enabled=False):
        weight = None if weights is None else torch.tensor(weights, device=logits.device)
        total = F.cross_entropy(logits.float(), target, weight, ignore_index=VOID, reduction="sum")
        return total / (target != VOID).sum().clamp_min(1)


def predict_frame(model: nn.Module, folder: Path, contract: Contract) -> Prediction:
    """(K, H, W) float32 class probabilities on the source's pixels, of a recording for its middle frame."""
    entry = open_entry(folder)
    return probabilities(model, entry.read([len(entry) // 2])[0], contract, entry.grid.native_shape)


def probabilities(model: nn.Module, frame: np.ndarray, contract: Contract, native_shape: tuple[int, int]) -> Prediction:
    """(K, *native_shape) float32 class probabilities of a stored frame (H, W, 3) uint8, which is seen whole.

    In windows of a crop's size one that holds nothing but sky does not know that it is the sky.
    """
    logits, _ = logits_of(model, frame[None], contract)
    found = logits[:, :, : frame.shape[0], : frame.shape[1]].softmax(1)
    scaled = F.interpolate(found, native_shape, mode="bilinear", align_corners=False)[0]
    return (scaled / scaled.sum(0)).numpy()


def confusion(prediction: Prediction, label: Path) -> np.ndarray:
    """(K, K) int64 counts of labelled pixels: rows are the reference, columns the likeliest class."""
    classes, reference = len(prediction), judged_label(label)
    labelled = reference != VOID
    pairs = reference[labelled].astype(np.int64) * classes + prediction.argmax(0)[labelled]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def iou(counts: np.ndarray) -> np.ndarray:
    """(K,) intersection over union of each class, nan for a class that is neither there nor predicted.

    Source: Everingham et al. 2010, The PASCAL VOC challenge, doi:10.1007/s11263-009-0275-4.
    Differs: none.
    """
    both = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - both
    return np.divide(both, union, out=np.full(len(counts), np.nan), where=union > 0)


def mean_iou(counts: np.ndarray) -> float:
    """Mean of `iou` over the classes that have one; nan where nothing is labelled."""
    each = iou(counts)
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def accuracy(counts: np.ndarray) -> float:
    """Share of the labelled pixels with the right class; nan where there are none."""
    return float(np.trace(counts) / counts.sum()) if counts.sum() else float("nan")


def pool(details: Sequence[dict[str, Any]]) -> dict[str, float]:
    """ "miou" and "pixel_accuracy" over all labelled pixels of a set of cases together."""
    counts = pooled_confusion(details)
    return {"miou": mean_iou(counts), "pixel_accuracy": accuracy(counts)}


def pooled_confusion(details: Sequence[dict[str, Any]]) -> np.ndarray:
    """(K, K) sum of the cases' counts."""
    total: np.ndarray = np.sum([detail["confusion"] for detail in details], axis=0)
    return total


def write_mask(prediction: Prediction, folder: Path, out: Path, contract: Contract) -> None:
    """Writes the likeliest classes as a label entry of the subject entry `folder`; of a recording for one frame."""
    entry, classes = open_entry(folder), prediction.argmax(0).astype(np.uint8)
    label = np.full((len(entry), *entry.shape), VOID, np.uint8)
    label[len(entry) // 2] = scaled_label(classes, entry.shape)
    np.save(out / "native.npy", classes)
    np.save(out / "label.npy", label)
    entry.grid.save(out)
