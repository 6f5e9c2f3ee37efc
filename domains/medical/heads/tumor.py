"""The tumour head: a lesion, or its parts as classes, judged by Dice, and as a detector of lesions and slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from domains.head import Head, Prediction
from domains.medical import detection, metrics, propose, trivial
from domains.medical.entries import open_label
from domains.medical.heads import segmentation


def score(prediction: Prediction, folder: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """`segmentation.score`, "small_lesion_sensitivity" (nan without small lesions), and what `detection.pool` needs."""
    figures, details = segmentation.score(prediction, folder, label)
    truth = open_label(label)
    spacing, reference = truth.native_spacing_mm if truth.spacing_known else None, truth.native > 0
    small = detection.small_lesions(reference, spacing)
    found = metrics.lesions(segmentation.clean_up(prediction, spacing) > 0, small)["lesion_sensitivity"]
    details |= detection.of_scan(1 - prediction[0], reference, spacing)
    return figures | {"small_lesion_sensitivity": found}, details


def summarise(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`segmentation.summarise`, how the figures of detection are to be read, and the FROC curves."""
    return {**segmentation.summarise(details), **detection.summarise(details)}


HEAD = Head(
    name="tumor",
    primary_metric="dice",
    loss=segmentation.loss,
    predict=segmentation.predict,
    trivial=trivial.bright_blob,
    trivial_name="brightest large blob away from the skull",
    score=score,
    primary_score=segmentation.mean_dice,
    summarise=summarise,
    pool=detection.pool,
    picture=segmentation.picture,
    named=segmentation.named,
    accounting=(
        "The settings of the threshold competitor were chosen among 36 on the labels of the 55 patients of "
        "brain_mri_lgg outside the usual held-out fifth.",
        "The form and settings of the proposals were chosen among 264 on the same 55; the painter of anomalies was "
        "made by somebody who had seen the outlines of 28. The 21 held-out patients had no say in either.",
    ),
    propose=propose.asymmetric_blob,
    write_mask=segmentation.write_mask,
)
