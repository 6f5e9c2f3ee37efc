"""A prediction as files in the source's own space: mask, overlay and what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from domains.domain import Candidate
from domains.errors import Refused
from domains.head import Evidence, Prediction
from domains.manifest import Contract
from domains.medical import boxes, detection, metrics, show
from domains.medical.box_results import answer, listed
from domains.medical.heads.segmentation import clean_up
from domains.medical.layout import stem
from domains.medical.readers import write_mask
from domains.medical.sources import files_of, is_nifti, read_channel, space_of
from domains.medical.uncertainty import case_uncertainty, entropy

KINDS = ("prediction.nii.gz", "overlay.png", "result.json", "uncertainty.nii.gz")


def write_prediction(
    candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path, evidence: Evidence | None = None
) -> list[Path]:
    """Writes mask, overlay and figures of one subject below `<folder>/<subject>/`; of a DICOM series a SEG too.

    `<image>_prediction.nii.gz` has the very shape and affine of the source (of a DICOM series: columns, rows, slices),
    `<image>_uncertainty.nii.gz` beside it holds the entropy in percent, `<image>_overlay.png` shows the mask,
    `<image>_result.json` says whether there is a lesion and in which slices, lists volumes, lesions and boxes (in ml
    and mm only where the spacing is known), and has one figure of uncertainty for the case.

    Args:
        candidate: whose first image gives shape and affine.
        prediction: (K, D, H, W) probabilities on the native grid, background first.
        contract: of the model.
        folder: where to write; the subject keeps the name it has in its source.
        evidence: none: the mask is where.
    """
    channel = contract.rules["channels"][0]
    source = files_of(candidate, channel)[0]
    volume = read_channel(candidate, channel)
    spacing = volume.spacing_mm if volume.spacing_known else None
    mask = clean_up(prediction, spacing)
    space = space_of(candidate, channel)
    axes = space.axis_letters
    # canonical voxel -> RAS mm -> voxel of the source file
    to_source = np.linalg.inv(space.affine) @ space.canonical_affine
    lesion = 1 - prediction[0]
    labelled, scores = detection.candidates(lesion)
    name = stem(source) if is_nifti(source) else channel
    names = candidate.notes.get("classes") or [f"class {k}" for k in range(1, len(prediction))]
    result: dict[str, Any] = {
        "image": name,
        "spacing": "known" if volume.spacing_known else "nominal: no figure in mm or ml is given",
        "found": answer(_by_slice(mask, lesion), float((lesion[mask > 0] if mask.any() else lesion).max()), to_source),
        "classes": {str(k): {"name": n, **_size(int((mask == k).sum()), spacing)} for k, n in enumerate(names, 1)},
        "lesions": _lesions(mask, prediction, spacing, to_source),
        "boxes": listed(scores, boxes.around(labelled), space.affine if volume.spacing_known else None, to_source),
        "uncertainty": round(case_uncertainty(prediction, mask), 4),
    }
    below = folder / candidate.name
    below.mkdir(parents=True, exist_ok=True)
    paths = [below / f"{name}_{what}" for what in KINDS]
    write_mask(paths[0], mask, space)
    write_mask(paths[3], np.round(100 * entropy(prediction)), space)
    if not is_nifti(source):
        seg = below / f"{name}_seg.dcm"
        result["seg"] = _seg(seg, space.from_canonical(mask), candidate, channel, names)
        paths += [seg] if result["seg"] == seg.name else []
    known, image = volume.spacing_known, volume.data[0]
    overlay = show.overlay(image, mask, None, volume.spacing_mm, spacing_known=known, axes=axes, names=names)
    paths[1].write_bytes(overlay)
    paths[2].write_text(json.dumps(result, indent=1) + "\n")
    return paths


def _by_slice(mask: np.ndarray, lesion: np.ndarray) -> dict[int, float]:
    """The slices with a voxel in the mask, and the highest probability of these in each."""
    return {int(d): float(lesion[d][mask[d] > 0].max()) for d in np.flatnonzero((mask > 0).any((1, 2)))}


def _seg(path: Path, mask: np.ndarray, candidate: Candidate, channel: str, names: Sequence[str]) -> str:
    """The file's name, or why there is none."""
    from domains.medical.dicom.seg import write_seg  # half a second that only predictions on DICOM need

    try:
        write_seg(path, mask, files_of(candidate, channel), names)
    except Refused as refusal:
        return f"not written: {refusal.reason}"
    return path.name


def _size(voxels: int, spacing_mm: Sequence[float] | None) -> dict[str, float]:
    if spacing_mm is None:
        return {"voxels": voxels}
    return {"voxels": voxels, "volume_ml": round(voxels * float(np.prod(spacing_mm)) / 1000, 3)}


def _lesions(
    mask: np.ndarray, prediction: Prediction, spacing_mm: Sequence[float] | None, to_source: np.ndarray
) -> list[dict[str, Any]]:
    """Every connected component, largest first: size, centre in voxels of the source file, highest probability."""
    labelled, count = metrics.components(mask > 0)
    found = []
    for number in range(1, count + 1):
        inside = labelled == number
        centre = to_source @ np.array([*ndimage.center_of_mass(inside), 1.0])
        size = _size(int(inside.sum()), spacing_mm)
        highest = float((1 - prediction[0])[inside].max())
        found.append(
            size | {"centre_voxel": [round(float(c), 1) for c in centre[:3]], "max_probability": round(highest, 4)}
        )
    return sorted(found, key=lambda lesion: -lesion["voxels"])
