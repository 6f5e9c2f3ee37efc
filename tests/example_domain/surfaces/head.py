"""The defect head: which pixels of a photograph are defective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from scipy import ndimage
from torch import Tensor, nn

from domains.head import Head, Prediction
from domains.manifest import Contract
from ssl_models.losses import dice_cross_entropy
from ssl_models.protocols import Batch
from surfaces.show import overlay

THRESHOLD = 3.5
"""Robust deviations from the median at which the competitor calls a pixel defective."""


def loss(logits: Tensor, batch: Batch) -> Tensor:
    """() Dice and cross-entropy of logits (B, 2, H, W)."""
    assert batch.targets is not None
    return dice_cross_entropy(logits, batch.targets)


def predict(model: nn.Module, entry: Path, contract: Contract) -> Prediction:
    """(2, H, W) probabilities from overlapping windows of the crop's size."""
    device = next(model.parameters()).device
    image = torch.from_numpy(np.load(entry / "image.npy").astype(np.float32))[None].to(device)
    with torch.no_grad():
        logits = sliding_window_inference(image, contract.crop_shape, 8, model, overlap=0.25, mode="gaussian")
    assert isinstance(logits, Tensor)
    return logits.float().softmax(1)[0].cpu().numpy()


def trivial(entry: Path, contract: Contract) -> Prediction:
    """(2, H, W): smoothed brightness far from the piece's median."""
    image = np.load(entry / "image.npy")[0].astype(np.float32)
    smooth = np.abs(ndimage.gaussian_filter(image, 1.0))
    probability = 1 / (1 + np.exp(-(smooth - THRESHOLD)))
    return np.stack([1 - probability, probability]).astype(np.float32)


def score(prediction: Prediction, entry: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Dice of a piece (1 where neither has a defect); counts of defects, of those found, and of false alarms.

    A defect is a connected component of the mask; it is found when a pixel of it is predicted.

    Source: Dice 1945.
    Differs: an empty prediction of a piece without defects counts as 1.
    """
    predicted, reference = prediction.argmax(0) > 0, np.load(label / "label.npy") > 0
    both, total = int((predicted & reference).sum()), int(predicted.sum() + reference.sum())
    defects, num_defects = ndimage.label(reference)
    alarms, num_alarms = ndimage.label(predicted)
    found = len(np.unique(defects[predicted & reference]))
    true_alarms = len(np.unique(alarms[predicted & reference]))
    details = {"defects": num_defects, "found": found, "false_alarms": num_alarms - true_alarms}
    return {"dice": 2 * both / total if total else 1.0}, details


def dice(prediction: Prediction, entry: Path, label: Path) -> float:
    """The primary metric of `score` by itself."""
    return score(prediction, entry, label)[0]["dice"]


def summarise(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Share of all defects found, and false alarms per piece."""
    defects = sum(case["defects"] for case in details)
    return {
        "defect_sensitivity": sum(case["found"] for case in details) / defects if defects else None,
        "false_alarms_per_piece": sum(case["false_alarms"] for case in details) / len(details),
    }


HEAD = Head(
    name="defect",
    primary_metric="dice",
    loss=loss,
    predict=predict,
    trivial=trivial,
    trivial_name="brightness threshold",
    score=score,
    primary_score=dice,
    summarise=summarise,
    picture=overlay,
)
