"""The tumour head that gives boxes in volumes and no mask: MONAI's RetinaNet, judged by average precision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from domains.errors import RecipeError
from domains.head import Evidence, Head, Prediction
from domains.manifest import Contract
from domains.medical import boxes, detection, metrics, show, trivial
from domains.medical.entries import open_entry, open_label
from domains.medical.resample import resample_image
from ssl_models.protocols import Batch

HIT = 0.1
"""Intersection over union with a lesion, from which on a box has found it."""
SHOWN = 0.5
"""Boxes with a higher score are drawn; the best one always is."""
NOTES = (
    f"A box finds a lesion that it overlaps by an IoU of {HIT:g} or more, and is a false positive where it finds none.",
    "Mean average precision is over IoU 0.10, 0.15 ... 0.50, the range of nnDetection (arXiv 2106.00817).",
)


def decoder(encoder: Any, classes: int) -> nn.Module:
    """A RetinaNet on the encoder.

    Raises:
        RecipeError: crops are no volumes.
    """
    from ssl_models.decoders.detection import BoxDecoder  # seconds that only this head needs

    if encoder.spatial_axes != 3:
        raise RecipeError("boxes are found in volumes, and these crops are slices: set data.plan=3d before ingest")
    return BoxDecoder(widths=encoder.widths, strides=encoder.strides)


def loss(logits: Tensor, batch: Batch) -> Tensor:
    """() loss of the decoder's rows against the boxes around what the crops show of each lesion."""
    from ssl_models.decoders.detection import detection_loss

    assert batch.targets is not None, "a head learns from labelled batches"
    masks = (batch.targets[:, 0] > 0).cpu().numpy()
    truth = [torch.from_numpy(boxes.around(metrics.components(mask)[0])).float() for mask in masks]
    return detection_loss(logits, truth, int(batch.sample_seed[0]))


def predict(model: nn.Module, folder: Path, contract: Contract) -> Prediction:
    """Boxes of a whole subject on its native grid, the best first.

    It is seen by windows of the crop's shape that overlap by half; a window answers for boxes whose middle is nearer to
    its own middle than to its neighbours'.

    Returns:
        (N, 7) float32: score in [0, 1], first voxel along D, H, W, one past the last. N is at most 100.
    """
    from monai.data.box_utils import non_max_suppression

    from ssl_models.decoders.detection import MOST, OVERLAP, found_boxes

    entry, device = open_entry(folder), next(model.parameters()).device
    found, scores, training = [], [], model.training
    model.eval()
    try:
        for window in product(*(windows(n, size) for n, size in zip(entry.shape, contract.crop_shape, strict=True))):
            start = torch.tensor([first for first, _, _ in window])
            crop = entry.read([(int(s), int(s) + n) for s, n in zip(start, contract.crop_shape, strict=True)])
            with torch.inference_mode():
                rows = model(torch.from_numpy(np.ascontiguousarray(crop))[None].to(device))[0].cpu()
            each, score = found_boxes(rows, contract.crop_shape)
            each = each + start.repeat(2)
            middle = (each[:, :3] + each[:, 3:]) / 2
            low, high = (torch.tensor([place[n] for place in window]) for n in (1, 2))
            own = ((middle >= low) & (middle < high)).all(1)
            found.append(each[own])
            scores.append(score[own])
    finally:
        model.train(training)
    all_boxes, all_scores = torch.cat(found), torch.cat(scores)
    kept = non_max_suppression(all_boxes, all_scores, OVERLAP, MOST)
    scale = np.tile(np.array(entry.native_shape) / np.array(entry.shape), 2)
    native = np.clip(all_boxes[kept].numpy() * scale, 0, np.tile(entry.native_shape, 2))
    return np.concatenate([all_scores[kept].numpy()[:, None], native], axis=1).astype(np.float32)


def windows(length: int, size: int) -> list[tuple[int, float, float]]:
    """Start of each window along an axis, and from where to where it answers; a short axis is in the middle of one."""
    if length <= size:
        return [((length - size) // 2, -np.inf, np.inf)]
    starts = sorted({*range(0, length - size, size // 2), length - size})
    borders = [-np.inf, *((a + b + size) / 2 for a, b in pairwise(starts)), np.inf]
    return list(zip(starts, borders[:-1], borders[1:], strict=True))


def bright_box(folder: Path, contract: Contract) -> Prediction:
    """(N, 7) the box around `trivial.bright_blob`, with a score of 1."""
    labelled, scores = detection.candidates(trivial.bright_blob(folder, contract)[1])
    return np.concatenate([scores[:, None], boxes.around(labelled)], axis=1).astype(np.float32)


def score(prediction: Prediction, folder: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """ "box_iou" of a case: what as many of the best boxes as there are lesions share with these, at best, on average.

    nan without lesions. Details are those of `detection.of_scan`; a slice scores the best box that crosses it.
    """
    from monai.data.box_utils import box_iou

    truth = open_label(label)
    spacing, mask = truth.native_spacing_mm if truth.spacing_known else None, truth.native > 0
    labelled, lesions = metrics.components(mask)
    found, scores, reference = prediction[:, 1:], prediction[:, 0], boxes.around(labelled)
    shared = np.asarray(box_iou(reference.astype(np.float32), found)).reshape(lesions, len(found))
    hit, sizes = shared >= HIT, np.bincount(labelled.ravel())
    best = [round(float(scores[row].max()), 4) if row.any() else None for row in hit]
    depth = np.arange(len(mask)) + 0.5
    crossed = (found[:, :1] <= depth) & (depth < found[:, 3:4])
    each_slice = zip((crossed * scores[:, None]).max(0, initial=0), np.asarray(mask.any((1, 2))), strict=True)
    first = shared[:, :lesions].max(1, initial=0)
    return {"box_iou": float(first.mean()) if lesions else float("nan")}, {
        "unit": metrics.unit(spacing),
        "lesions": [
            {"small": detection.is_small(int(sizes[n + 1]), spacing), "score": best[n]} for n in range(lesions)
        ],
        "false_scores": [round(float(s), 4) for s in scores[~hit.any(0)]],
        "boxes": boxes.matched(found, scores, reference),
        "slices": [[round(float(s), 4), int(tumor)] for s, tumor in each_slice],
    }


def box_iou_of_case(prediction: Prediction, folder: Path, label: Path) -> float:
    """ "box_iou" of `score` by itself."""
    return score(prediction, folder, label)[0]["box_iou"]


def summarise(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How the figures are to be read, and the FROC curves."""
    return detection.summarise(details, NOTES)


def picture(folder: Path, prediction: Prediction, label: Path | None, evidence: Evidence | None = None) -> bytes:
    """PNG of the boxes, and the reference if there is one, on three planes of the first channel."""
    entry = open_entry(folder)
    image = resample_image(entry.read()[:1], entry.native_shape)[0]
    reference = None if label is None else open_label(label).native
    known, axes = entry.spacing_known, entry.grid.axes
    drawn = painted(prediction, entry.native_shape)
    return show.overlay(image, drawn, reference, entry.native_spacing_mm, spacing_known=known, axes=axes)


def painted(prediction: Prediction, shape: Sequence[int]) -> np.ndarray:
    """(D, H, W) uint8, 1 inside boxes with a score above 0.5; where there is none, inside the best one."""
    mask = np.zeros(tuple(shape), dtype=np.uint8)
    for box in prediction[: max(1, int((prediction[:, 0] > SHOWN).sum()))]:
        first, past = np.round(box[1:4]).astype(int), np.round(box[4:]).astype(int)
        mask[tuple(slice(a, max(b, a + 1)) for a, b in zip(first, past, strict=True))] = 1
    return mask


HEAD = Head(
    name="tumor_boxes",
    primary_metric="box_map",
    case_metric="box_iou",
    loss=loss,
    predict=predict,
    trivial=bright_box,
    trivial_name="box of the brightest large blob away from the skull",
    score=score,
    primary_score=box_iou_of_case,
    summarise=summarise,
    picture=picture,
    decoder=decoder,
    pool=detection.pool,
    accounting=(
        "The settings of the threshold competitor were chosen among 36 on the labels of the 55 patients of "
        "brain_mri_lgg outside the usual held-out fifth.",
    ),
)
