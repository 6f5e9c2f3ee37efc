"""What every segmentation head shares: loss, whole-subject inference, clean-up, judgement, picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from domains.head import Evidence, Head, Prediction
from domains.manifest import Contract
from domains.medical import metrics, show
from domains.medical.augment import LEFT_RIGHT_AXIS, may_mirror
from domains.medical.entries import open_entry, open_label
from domains.medical.preprocess import write_array
from domains.medical.resample import resample_image, resample_label
from domains.medical.uncertainty import case_uncertainty, how_telling
from domains.recipe import Recipe
from ssl_models.losses import dice_cross_entropy
from ssl_models.protocols import Batch

OVERLAP = 0.5
"""Of neighbouring windows, where a subject is larger than a crop."""
WINDOWS_AT_ONCE = {2: 16, 3: 2}
"""By number of spatial axes."""
SMALLEST_MM3 = 50.0
SMALLEST_VOXELS = 10
SMALLEST_SHARE = 0.25
"""A component below the volume (voxels where the spacing is unknown) or below this share of the largest is dropped."""


def loss(logits: Tensor, batch: Batch) -> Tensor:
    """() Dice plus cross-entropy of logits (B, K, *S) against the batch's targets."""
    assert batch.targets is not None, "a head learns from labelled batches"
    return dice_cross_entropy(logits, batch.targets)


def predict(model: nn.Module, folder: Path, contract: Contract) -> Prediction:
    """Class probabilities of a whole subject on its native grid.

    Every voxel is seen by windows of the crop's shape that overlap by half and are blended with Gaussian weights; one
    window where the subject (2D: the slice with its neighbours) is not larger than a crop. The mean is taken with the
    left-right mirrored subject (not of sagittal slices).

    Args:
        model: crops (B, C, *S) -> logits (B, K, *S). Precision (autocast) is the caller's.
        folder: subject entry.
        contract: what the model was trained with.

    Returns:
        (K, D, H, W) float32, sums to one over K.
    """
    entry = open_entry(folder)
    device = next(model.parameters()).device
    crops = torch.from_numpy(np.ascontiguousarray(entry.model_input(contract))).to(device)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            straight = _infer(model, crops, contract)
            mirrored = straight
            if may_mirror(contract):
                mirrored = _infer(model, crops.flip(LEFT_RIGHT_AXIS), contract).flip(LEFT_RIGHT_AXIS)
    finally:
        model.train(training)
    probabilities = ((straight + mirrored) / 2).cpu().numpy()
    # 2D: slices came as the batch (D, K, H, W); 3D: a batch of one (1, K, D, H, W)
    stored = np.moveaxis(probabilities, 0, 1) if contract.rules["kind"] == "2d" else probabilities[0]
    return entry.to_native(np.ascontiguousarray(stored))


def _infer(model: nn.Module, crops: Tensor, contract: Contract) -> Tensor:
    from monai.inferers import sliding_window_inference  # seconds that few commands need

    def probabilities(window: Tensor) -> Tensor:
        logits: Tensor = model(window)
        return logits.float().softmax(1)

    blended = sliding_window_inference(
        crops,
        roi_size=contract.crop_shape,
        sw_batch_size=WINDOWS_AT_ONCE[len(contract.crop_shape)],
        predictor=probabilities,
        overlap=OVERLAP,
        mode="gaussian",
        padding_mode="replicate",
    )
    assert isinstance(blended, Tensor)
    return blended


def clean_up(prediction: Prediction, spacing_mm: Sequence[float] | None) -> np.ndarray:
    """The mask that is scored and written: the likeliest class, without specks.

    A component of all classes together is dropped when it is smaller than 50 mm3 (10 voxels where the spacing is not
    known) or than a quarter of the largest component.

    Args:
        prediction: (K, *S) probabilities, background first.
        spacing_mm: voxel size along S, or None when unknown.

    Returns:
        (*S) uint8 classes.
    """
    classes: np.ndarray = prediction.argmax(0).astype(np.uint8)
    labelled, count = metrics.components(classes > 0)
    if count == 0:
        return classes
    sizes = np.bincount(labelled.ravel())
    sizes[0] = 0
    smallest = SMALLEST_VOXELS if spacing_mm is None else SMALLEST_MM3 / float(np.prod(spacing_mm))
    kept = sizes >= max(smallest, SMALLEST_SHARE * sizes.max())
    return np.where(kept[labelled], classes, 0).astype(np.uint8)


def write_mask(prediction: Prediction, folder: Path, out: Path, contract: Contract) -> None:
    """Writes the cleaned mask as a label entry on the grids of the subject entry `folder`."""
    grid = open_entry(folder).grid
    mask = clean_up(prediction, grid.native_spacing_mm if grid.spacing_known else None)
    write_array(out / "label.b2nd", resample_label(mask, grid.stored_shape, len(prediction)), contract)
    if grid.stored_shape != grid.native_shape:
        write_array(out / "native.b2nd", mask, contract)
    grid.save(out)


def score(prediction: Prediction, folder: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures of one case after clean-up, on the native grid.

    Returns:
        "dice", "hd95", "nsd" (means over the foreground classes), "lesion_sensitivity", "false_positives" and the
        predicted "volume_ml" or, where the spacing is not known, "volume_voxels" (of all classes together); with
        several classes the same of each, "dice_1" ...; and the details "unit" (of hd95: "mm" or "voxel"), sizes in
        voxels, "dice" and "uncertainty".
    """
    truth = open_label(label)
    spacing = truth.native_spacing_mm if truth.spacing_known else None
    predicted, reference = clean_up(prediction, spacing), truth.native
    each = [metrics.overlap(predicted == k, reference == k, spacing) for k in range(1, len(prediction))]
    figures = {key: float(np.mean([figure[key] for figure in each])) for key in each[0]}
    figures |= _lesions(predicted > 0, reference > 0, spacing)
    if len(each) > 1:
        each = [f | _lesions(predicted == k, reference == k, spacing) for k, f in enumerate(each, 1)]
        figures |= {f"{key}_{k}": value for k, figure in enumerate(each, 1) for key, value in figure.items()}
    details = {
        "unit": metrics.unit(spacing),
        "predicted_voxels": int((predicted > 0).sum()),
        "reference_voxels": int((reference > 0).sum()),
        "dice": figures["dice"],
        "uncertainty": case_uncertainty(prediction, predicted),
    }
    return figures, details


def _lesions(predicted: np.ndarray, reference: np.ndarray, spacing: Sequence[float] | None) -> dict[str, float]:
    """Lesions found and false positives between two bool masks, and how large the first is."""
    found, voxels = metrics.lesions(predicted, reference), float(predicted.sum())
    size = {"volume_voxels": voxels} if spacing is None else {"volume_ml": voxels * float(np.prod(spacing)) / 1000}
    return {"lesion_sensitivity": found["lesion_sensitivity"], "false_positives": found["false_positives"], **size}


def named(head: Head, recipe: Recipe) -> Head:
    """The head whose figures of single classes ("dice_1") and whose pictures name them as the recipe does."""
    names: tuple[str, ...] = recipe.data.label_classes  # type: ignore[attr-defined]
    if len(names) == 1:
        return head

    def score_by_name(prediction: Prediction, folder: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
        figures, details = head.score(prediction, folder, label)
        return {_by_name(key, names): value for key, value in figures.items()}, details

    return replace(head, score=score_by_name, picture=partial(picture, names=names))


def _by_name(key: str, names: Sequence[str]) -> str:
    """ "dice_2" -> "dice_edema"."""
    figure, _, number = key.rpartition("_")
    known = {str(k): name for k, name in enumerate(names, 1)}
    return f"{figure}_{known[number]}" if number in known else key


def mean_dice(prediction: Prediction, folder: Path, label: Path) -> float:
    """The "dice" of `score` by itself: no surfaces, no components of the reference."""
    truth = open_label(label)
    predicted = clean_up(prediction, truth.native_spacing_mm if truth.spacing_known else None)
    classes = range(1, len(prediction))
    return float(np.mean([metrics.dice(predicted == k, truth.native == k) for k in classes]))


def summarise(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The unit of the distances, and whether uncertainty tells where the mask is wrong."""
    units = sorted({str(d["unit"]) for d in details})
    return {"unit": " and ".join(units), **how_telling(details)} if details else {}


def picture(
    folder: Path, prediction: Prediction, label: Path | None, evidence: Evidence | None = None,
    names: Sequence[str] = (),
) -> bytes:  # fmt: skip
    """PNG of the cleaned prediction, and the reference if there is one, on three planes of the first channel."""
    entry = open_entry(folder)
    image = resample_image(entry.read()[:1], entry.native_shape)[0]
    spacing = entry.native_spacing_mm
    mask = clean_up(prediction, spacing if entry.spacing_known else None)
    reference = None if label is None else open_label(label).native
    known, axes = entry.spacing_known, entry.grid.axes
    classes = names or [f"class {k}" for k in range(1, len(prediction))]
    return show.overlay(image, mask, reference, spacing, spacing_known=known, axes=axes, names=classes)
