"""Boxes around lesions: from labelled regions, matched with those of the reference, average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from domains.average_precision import average_precision

IOUS = tuple(round(0.1 + 0.05 * n, 2) for n in range(9))
"""0.10, 0.15 ... 0.50: borders of lesions are uncertain, so less overlap is asked for than in photographs."""
PRINTED = (0.1, 0.5)
"""Whose average precision is given by itself."""


def around(labelled: np.ndarray) -> np.ndarray:
    """(N, 6) int64: first voxel along D, H, W, then one past the last, of the regions 1..N of (D, H, W) labels."""
    found = [[*(s.start for s in region), *(s.stop for s in region)] for region in ndimage.find_objects(labelled)]
    return np.array(found, dtype=np.int64).reshape(len(found), 2 * labelled.ndim)


def matched(found: np.ndarray, scores: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Which boxes hit one of the reference, at each IoU: the best first, each takes the free one it overlaps most.

    Args:
        found: (N, 6) boxes as `around` gives them.
        scores: (N,).
        reference: (G, 6) boxes.

    Returns:
        "scores" of the best 100, falling; "hits", for each of `IOUS` a list of 0 or 1 each.

    Source: Lin et al. 2014, arXiv:1405.0312 (COCO); Baumgartner et al. 2021, arXiv:2106.00817 (nnDetection, in 3D).
    Differs: none; the matching is MONAI's, which is nnDetection's.
    """
    from monai.apps.detection.metrics.matching import matching_batch  # seconds that only a judgement needs
    from monai.data.box_utils import box_iou

    def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.asarray(box_iou(one, other))

    one_class = [np.zeros(len(boxes), dtype=np.int64) for boxes in (found, reference)]
    (result,) = matching_batch(
        overlap, IOUS, [found.astype(np.float32)], one_class[:1], [scores],
        [reference.astype(np.float32)], one_class[1:],
    )  # fmt: skip
    if 0 not in result:  # neither boxes nor lesions
        return {"scores": [], "hits": [[] for _ in IOUS]}
    hits = (result[0]["dtMatches"] > 0).astype(int)
    return {"scores": [round(float(s), 4) for s in result[0]["dtScores"]], "hits": hits.tolist()}


def pool(details: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Average precision of the boxes of a set of scans; nan without lesions.

    Args:
        details: of each scan "boxes", as `matched` gives them, and "lesions".

    Returns:
        "box_map", the mean over `IOUS`; "box_ap_at_0.1" and "box_ap_at_0.5".

    Source: Lin et al. 2014, arXiv:1405.0312 (COCO: highest precision at 101 recalls and beyond); Baumgartner et al.
        2021, arXiv:2106.00817 (IoU 0.1 to 0.5).
    Differs: as `average_precision` does.
    """
    precision = average_precision(
        np.concatenate([d["boxes"]["scores"] for d in details]),
        np.concatenate([np.array(d["boxes"]["hits"], dtype=int).reshape(len(IOUS), -1) for d in details], axis=1),
        sum(len(d["lesions"]) for d in details),
    )
    each = {f"box_ap_at_{iou:g}": float(precision[IOUS.index(iou)]) for iou in PRINTED}
    return {"box_map": float(precision.mean()), **each}
