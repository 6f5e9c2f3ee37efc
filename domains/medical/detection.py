"""Lesions as objects: candidates with a score, lesions found and missed, small ones apart; slices with and without."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from domains.medical import boxes
from domains.medical.metrics import components
from domains.medical.ranking import auroc, average_precision

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which the sensitivity is read."""
THRESHOLD = 0.2
"""Voxels above this probability are joined into candidates."""
SMALL_MM = 10.0
"""Diameter of the ball of its volume below which a lesion is small (RANO: what is too small to be measured)."""
SMALL_VOXELS = 2000
"""Below this a lesion is small where the spacing is not known: of brain_mri_lgg 22 of 78 lesions."""
CANDIDATES = (
    f"A candidate is a connected region of voxels above {THRESHOLD:g}, its score the highest of them; it finds every "
    "lesion that it touches, and is a false positive where it touches none.",
    "Boxes are those of the candidates; their mean average precision is over IoU 0.10, 0.15 ... 0.50, the range of "
    "nnDetection (arXiv 2106.00817).",
)
FEWEST = 3
"""Scans with a small lesion, below which nothing is said of small lesions as a set."""


def is_small(voxels: int, spacing_mm: Sequence[float] | None) -> bool:
    """Whether a lesion of so many voxels is small: by diameter in mm, by voxels where the spacing is not known."""
    if spacing_mm is None:
        return voxels < SMALL_VOXELS
    return bool((6 * voxels * np.prod(spacing_mm) / np.pi) ** (1 / 3) < SMALL_MM)


def small_lesions(reference: np.ndarray, spacing_mm: Sequence[float] | None) -> np.ndarray:
    """(*S) bool: the lesions of a reference (*S) bool that are small."""
    labelled, _ = components(reference)
    sizes = np.bincount(labelled.ravel())
    small = np.array([number > 0 and is_small(int(size), spacing_mm) for number, size in enumerate(sizes)])
    return small[labelled]


def candidates(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components of the voxels above 0.2, and the highest probability in each as its score.

    Args:
        probability: (*S) float32 of any lesion, in [0, 1].

    Returns:
        (*S) labels 1..N, and (N,) scores.
    """
    labelled, count = components(probability > THRESHOLD)
    return labelled, np.asarray(ndimage.maximum(probability, labelled, np.arange(1, count + 1))).reshape(count)


def of_scan(probability: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float] | None) -> dict[str, Any]:
    """What `pool` needs of one scan, small enough to keep as JSON.

    A candidate that touches a lesion finds it (the best such candidate counts), one that touches none is a false
    positive. A slice (along D) has a tumour when one voxel of it has, and the score of its most tumour-like voxel.

    Args:
        probability: (D, H, W) float32 of any lesion, in [0, 1].
        reference: (D, H, W) bool.
        spacing_mm: voxel size along D, H, W, or None when unknown.

    Returns:
        "lesions", a `small` and the `score` (None: missed) each; "false_scores"; "boxes" (see `boxes.matched`);
        "slices", a pair of score and 0 or 1 each.
    """
    lesion_map, num_lesions = components(reference)
    candidate_map, scores = candidates(probability)
    touching = (candidate_map > 0) & (lesion_map > 0)
    pairs = np.unique(np.stack([lesion_map[touching], candidate_map[touching]]), axis=1)
    best: dict[int, float] = {}
    for lesion, candidate in pairs.T.tolist():
        best[lesion] = max(best.get(lesion, 0.0), float(scores[candidate - 1]))
    sizes = np.bincount(lesion_map.ravel())
    false = np.setdiff1d(np.arange(1, len(scores) + 1), pairs[1])
    each_slice = zip(probability.max((1, 2)), np.asarray(reference.any((1, 2))), strict=True)
    return {
        "lesions": [
            {"small": is_small(int(sizes[n]), spacing_mm), "score": round(best[n], 4) if n in best else None}
            for n in range(1, num_lesions + 1)
        ],
        "false_scores": [round(float(scores[f - 1]), 4) for f in false],
        "boxes": boxes.matched(boxes.around(candidate_map), scores, boxes.around(lesion_map)),
        "slices": [[round(float(score), 4), int(tumor)] for score, tumor in each_slice],
    }


def froc_curve(details: Sequence[Mapping[str, Any]], *, small: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Operating points of a set of scans, one for every score: false positives per scan, and share of lesions found.

    Args:
        details: of each scan, what `of_scan` gave.
        small: of the small lesions alone; false positives are the same.

    Returns:
        Two (P,), both growing, from (0, 0) on; the shares are nan without lesions.

    Source: Bandos et al. 2009, doi:10.1111/j.1541-0420.2008.01049.x (FROC).
    """
    wanted = [one for d in details for one in d["lesions"] if one["small"] or not small]
    hits = np.sort([one["score"] for one in wanted if one["score"] is not None])
    false = np.sort([score for d in details for score in d["false_scores"]])
    thresholds = np.unique(np.concatenate([hits, false]))[::-1]
    rates, found = (np.append(0, len(s) - np.searchsorted(s, thresholds)) for s in (false, hits))
    return rates / max(len(details), 1), found / (len(wanted) or math.nan)


def froc(details: Sequence[Mapping[str, Any]], *, small: bool = False) -> dict[str, float]:
    """Lesion sensitivity at fixed numbers of false positives per scan, over all scans.

    Returns:
        "froc", the mean of "sensitivity_at_0.125" ... "sensitivity_at_8", in [0, 1]; nan without lesions. With `small`
        the names begin with "small_".

    Source: Setio et al. 2017, arXiv:1612.08012 (the seven rates).
    Differs: between operating points the curve is interpolated linearly, beyond the last one it stays level.
    """
    at = np.interp(RATES, *froc_curve(details, small=small))
    prefix = "small_" if small else ""
    each = {f"{prefix}sensitivity_at_{rate:g}": float(value) for rate, value in zip(RATES, at, strict=True)}
    return {f"{prefix}froc": float(at.mean()), **each}


def pool(details: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Figures of a set of scans: which slices have a tumour (which scans, if some have none), FROC, boxes.

    "slice_auroc" and "slice_average_precision" over the slices of all scans, and "slice_auroc_position_alone", what the
    nearness of a slice to the middle of its scan tells, whoever predicted; with scans of both kinds "scan_auroc" and
    "scan_average_precision" by their highest probability; `froc` of all lesions and of the small ones; `boxes.pool`.
    """
    score, tumor, middle = _slices(details)
    figures = {
        "slice_auroc": auroc(score, tumor), "slice_average_precision": average_precision(score, tumor),
        "slice_auroc_position_alone": auroc(middle, tumor),
    }  # fmt: skip
    sick = np.array([bool(d["lesions"]) for d in details])
    if 0 < sick.sum() < len(sick):
        highest = np.array([max(score for score, _ in d["slices"]) for d in details])
        figures |= {"scan_auroc": auroc(highest, sick), "scan_average_precision": average_precision(highest, sick)}
    small = froc(details, small=True) if _enough_small(details) else {}
    return {**figures, **froc(details), **small, **boxes.pool(details)}


def summarise(details: Sequence[dict[str, Any]], how: Sequence[str] = CANDIDATES) -> dict[str, Any]:
    """How the figures of `pool` are to be read, in sentences, and the curves.

    Args:
        details: of each scan.
        how: what finds a lesion, in sentences.

    Returns:
        "notes"; "froc_curve" and "small_froc_curve", pairs of false positives per scan and share of lesions found.
    """
    if not details:
        return {}
    lesions = [one for d in details for one in d["lesions"]]
    small = [one for one in lesions if one["small"]]
    curves = {"froc_curve": froc_curve(details)} if lesions else {}
    curves |= {"small_froc_curve": froc_curve(details, small=True)} if _enough_small(details) else {}
    return {
        "notes": _notes(details, len(lesions), len(small), how),
        **{name: [[round(float(v), 4) for v in point] for point in zip(*curve, strict=True)]
           for name, curve in curves.items()},
    }  # fmt: skip


def _slices(details: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) scores, (N,) bool labels and (N,) nearness to the middle of its scan (0 at most) of every slice."""
    both = np.concatenate([np.array(d["slices"], dtype=float).reshape(-1, 2) for d in details])
    middle = np.concatenate([-np.abs(np.linspace(-1, 1, len(d["slices"]))) for d in details])
    return both[:, 0], both[:, 1] > 0, middle


def _enough_small(details: Sequence[Mapping[str, Any]]) -> bool:
    return sum(any(one["small"] for one in d["lesions"]) for d in details) >= FEWEST


def _notes(details: Sequence[Mapping[str, Any]], lesions: int, small: int, how: Sequence[str]) -> list[str]:
    sick, (_, tumor, _) = sum(bool(d["lesions"]) for d in details), _slices(details)
    of_slices = f"{int(tumor.sum())} of {len(tumor)} slices have a lesion in them"
    if 0 < sick < len(details):
        unit = f"{sick} of {len(details)} scans have a lesion: judged by scan and by slice ({of_slices})."
    else:
        which = "Every scan has" if sick else "No scan has"
        unit = (
            f"{which} a lesion, so whether a patient has a tumour cannot be judged on this set; the unit is the slice: "
            f"{of_slices}."
        )
    units = {str(d["unit"]) for d in details}
    size = [f"under {SMALL_MM:g} mm across (a ball of the same volume)"] if "mm" in units else []
    size += [f"under {SMALL_VOXELS} voxels (the spacing is nominal)"] if "voxel" in units else []
    return [
        f"{unit} A slice scores the highest probability in it; intervals resample patients.",
        f"Small lesions are {' or '.join(size)}: {small} of {lesions}"
        + ("." if _enough_small(details) else f", in fewer than {FEWEST} scans: no figures of them as a set."),
        *how,
    ]
