"""Whether there is a lesion, in which slices, and boxes, in voxels of the source's own files; boxes without a mask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from domains.domain import Candidate
from domains.head import Evidence, Prediction
from domains.manifest import Contract
from domains.medical import show
from domains.medical.heads.tumor_boxes import SHOWN, painted
from domains.medical.layout import stem
from domains.medical.sources import files_of, is_nifti, read_channel, space_of

NOTE = (
    "The highest probability found, not calibrated. How often a scan without a lesion is called one with a lesion is "
    "known only where the model's evaluation had such scans; else it was judged slice by slice."
)


def answer(slices: Mapping[int, float], probability: float, to_source: np.ndarray) -> dict[str, Any]:
    """The answer for the study, as JSON: a lesion where there is a slice with one.

    Args:
        slices: place along D -> probability, of those with a lesion.
        probability: that backs the answer, whatever it is.
        to_source: 4x4, (D, H, W) voxel -> voxel of the source.
    """
    axis = int(np.abs(to_source[:3, 0]).argmax())
    found = [
        {"slice": round(float((to_source @ [d, 0, 0, 1])[axis])), "probability": round(one, 4)}
        for d, one in slices.items()
    ]
    return {
        "lesion": bool(slices),
        "probability": round(probability, 4),
        "slice_axis": axis,
        "slices": sorted(found, key=lambda one: one["slice"]),
        "note": NOTE,
    }


def listed(
    scores: np.ndarray, found: np.ndarray, affine: np.ndarray | None, to_source: np.ndarray
) -> list[dict[str, Any]]:
    """Boxes as JSON, the likeliest first: score, first and last voxel of each in the source file.

    Args:
        scores: (N,).
        found: (N, 6), first voxel along D, H, W, then one past the last.
        affine: 4x4, voxel of the source -> RAS mm; None where the spacing is not known.
        to_source: 4x4, (D, H, W) voxel -> voxel of the source.
    """
    each = []
    for score, box in zip(scores, np.round(found), strict=True):
        ends = np.stack([[*box[:3], 1], [*np.maximum(box[3:] - 1, box[:3]), 1]], axis=1)
        corners = np.round((to_source @ ends)[:3]).astype(int)
        first, last = corners.min(1), corners.max(1)
        where = {} if affine is None else _in_mm(first, last, affine)
        each.append(
            {"score": round(float(score), 4), "first_voxel": first.tolist(), "last_voxel": last.tolist(), **where}
        )
    return sorted(each, key=lambda one: -one["score"])


def write_prediction(
    candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path, evidence: Evidence | None = None
) -> list[Path]:
    """Writes `<image>_overlay.png` and `<image>_result.json` of one subject below `<folder>/<subject>/`.

    Args:
        candidate: whose first image gives the voxels.
        prediction: (N, 7) scores and boxes on the native grid, the best first.
        contract: of the model.
        folder: where to write; the subject keeps the name it has in its source.
        evidence: none: the boxes are where.
    """
    channel = contract.rules["channels"][0]
    source = files_of(candidate, channel)[0]
    volume, space = read_channel(candidate, channel), space_of(candidate, channel)
    known, name = volume.spacing_known, stem(source) if is_nifti(source) else channel
    to_source = np.linalg.inv(space.affine) @ space.canonical_affine
    result = {
        "image": name,
        "spacing": "known" if known else "nominal: no figure in mm is given",
        "found": answer(_by_slice(prediction), float(prediction[:, 0].max(initial=0)), to_source),
        "boxes": listed(prediction[:, 0], prediction[:, 1:], space.affine if known else None, to_source),
    }
    below = folder / candidate.name
    below.mkdir(parents=True, exist_ok=True)
    overlay, figures = below / f"{name}_overlay.png", below / f"{name}_result.json"
    image, drawn = volume.data[0], painted(prediction, volume.data.shape[1:])
    overlay.write_bytes(
        show.overlay(image, drawn, None, volume.spacing_mm, spacing_known=known, axes=space.axis_letters)
    )
    figures.write_text(json.dumps(result, indent=1) + "\n")
    return [overlay, figures]


def _by_slice(prediction: Prediction) -> dict[int, float]:
    """The slices that a box above 0.5 crosses, and the score of the best of them."""
    found: dict[int, float] = {}
    for score, first, _, _, past, *_ in prediction[prediction[:, 0] > SHOWN]:
        for d in range(round(float(first)), max(round(float(past)), round(float(first)) + 1)):
            found[d] = max(found.get(d, 0.0), float(score))
    return found


def _in_mm(first: np.ndarray, last: np.ndarray, affine: np.ndarray) -> dict[str, list[float]]:
    """Centre (right, anterior, superior) and size along the source's axes of the box from voxel to voxel."""
    centre = affine @ np.array([*(first + last) / 2, 1.0])
    size = (last - first + 1) * np.linalg.norm(affine[:3, :3], axis=0)
    return {"centre_ras_mm": [round(float(c), 2) for c in centre[:3]], "size_mm": [round(float(s), 2) for s in size]}
