"""Volumes or X-rays: which of the two a recipe, file or contract is about, and who does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from domains.domain import Candidate, Case, CropSource, HandedOut, Raw, Scan
from domains.head import Evidence, Prediction
from domains.manifest import Contract, Subject
from domains.medical import (
    box_results,
    datasets,
    layout,
    preprocess,
    results,
    show,
    xray_findings,
    xray_images,
    xray_layout,
    xray_show,
)  # fmt: skip
from domains.medical import (
    plan as plans,
)
from domains.medical.entries import open_entry
from domains.medical.hand_out import hand_out_volumes, hand_out_xrays
from domains.medical.sources import is_nifti
from domains.recipe import Recipe


def of_xrays(recipe: Recipe) -> bool:
    """Whether a recipe is about X-ray images."""
    planned: str = recipe.data.plan  # type: ignore[attr-defined]
    return planned == xray_images.KIND


def _prepared_as_xrays(contract: Contract) -> bool:
    return bool(contract.rules["kind"] == xray_images.KIND)


def scan(source: Path, recipe: Recipe) -> Scan:
    """Images with their labels: `layout.scan` or `xray_layout.scan`."""
    return xray_layout.scan(source, recipe) if of_xrays(recipe) else layout.scan(source, recipe)


def open_inputs(path: Path, recipe: Recipe) -> Sequence[Candidate]:
    """What a file is that `predict` was given."""
    return xray_layout.open_inputs(path, recipe) if of_xrays(recipe) else layout.open_inputs(path, recipe)


def inspect(candidate: Candidate) -> dict[str, Any]:
    """Cheap facts of a candidate: a volume is a NIfTI file or the numbered slices of a series."""
    name, path = next(iter(candidate.images.items()))
    is_volume = "/" in name or is_nifti(path)
    return plans.inspect(candidate) if is_volume else xray_images.inspect(candidate)


def plan(inspections: Sequence[dict[str, Any]], recipe: Recipe) -> Contract:
    """The contract for an archive."""
    return xray_images.plan(inspections, recipe) if of_xrays(recipe) else plans.plan(inspections, recipe)


def read(candidate: Candidate, recipe: Recipe) -> Raw:
    """A decoded and checked subject."""
    return xray_images.read(candidate, recipe) if of_xrays(recipe) else preprocess.read(candidate, recipe)


def write(raw: Raw, contract: Contract, folder: Path) -> dict[str, Any]:
    """A subject entry."""
    return (xray_images if _prepared_as_xrays(contract) else preprocess).write(raw, contract, folder)


def read_label(candidate: Candidate, raw: Raw, contract: Contract) -> Raw:
    """Outlines or findings."""
    return (xray_findings if _prepared_as_xrays(contract) else preprocess).read_label(candidate, raw, contract)


def write_label(raw: Raw, contract: Contract, folder: Path) -> dict[str, Any]:
    """A label entry."""
    return (xray_findings if _prepared_as_xrays(contract) else preprocess).write_label(raw, contract, folder)


def crops(
    entries: Sequence[Path], labels: Sequence[Path] | None, subjects: Sequence[Subject], contract: Contract,
    recipe: Recipe, augment: bool,
) -> CropSource:  # fmt: skip
    """The findings of an X-ray belong to all of it: its crops are cut as unlabelled ones."""
    if labels is None or not _prepared_as_xrays(contract):
        return datasets.crops(entries, labels, subjects, contract, recipe, augment)
    return xray_findings.WithFindings(datasets.crops(entries, None, subjects, contract, recipe, augment), labels)


def write_prediction(
    candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path, evidence: Evidence | None = None
) -> list[Path]:
    """Files for whoever asked for a prediction: findings, boxes (N, 7) or a mask."""
    without_mask = xray_show if _prepared_as_xrays(contract) else box_results
    module = without_mask if prediction.ndim <= 2 else results
    return module.write_prediction(candidate, prediction, contract, folder, evidence)


def glance(folder: Path) -> np.ndarray:
    """(C, 16, 16, 16) float32 of a volume, (1, 1, 64, 64) of an X-ray: all of it, in means over cells."""
    import torch
    from torch.nn import functional as F

    values = torch.from_numpy(open_entry(folder).read())
    shape = (1, 64, 64) if values.shape[1] == 1 else (16, 16, 16)
    return F.adaptive_avg_pool3d(values, shape).numpy()


def hand_out(cases: Sequence[Case], recipe: Recipe, out: Path) -> HandedOut:
    """Cases for whoever draws outlines or fills in findings."""
    return (hand_out_xrays if of_xrays(recipe) else hand_out_volumes)(cases, recipe, out)


def picture(folder: Path) -> bytes:
    """A thumbnail; an X-ray is an entry of one slice."""
    return xray_show.thumbnail(folder) if open_entry(folder).shape[0] == 1 else show.thumbnail(folder)
