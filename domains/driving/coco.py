"""Boxes judged as COCO does: matched frame by frame by pycocotools, kept as small numbers, counted up for any set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from domains.average_precision import average_precision

OVERLAPS = tuple(round(0.5 + 0.05 * n, 2) for n in range(10))
"""IoU 0.50, 0.55 ... 0.95."""
SIZES = ("small", "medium", "large")
"""Below 32**2, up to 96**2, and above: area of the box in pixels of the source."""
PER_OBJECT = len(OVERLAPS)
IGNORED_ALL = -2
"""Kind of an area in which boxes of any class are neither right nor wrong (KITTI's DontCare)."""


def crowd(label: int) -> int:
    """Kind of an area that holds too many objects of a class to draw each (COCO's iscrowd)."""
    return -3 - label


def matched(found: np.ndarray, reference: np.ndarray, classes: int) -> dict[str, Any]:
    """Which boxes of one frame hit which, as JSON that `joined` adds up and `pool` counts.

    Args:
        found: (N, 6) class, score, x1, y1, x2, y2 in pixels of the source.
        reference: (M, 5) kind, x1, y1, x2, y2; a kind is a class, `IGNORED_ALL` or a `crowd`.
        classes: K.

    Returns:
        "class" and "score" of every box, "hits" and "ignored": bit t is set where it hits an object, or is neither
        right nor wrong, at `OVERLAPS[t]`; "objects" (K) of each class; "sized" (K, 3) of each size, and "recalled"
        (K, 3), how many of them are found, summed over the overlaps.

    Source: Lin et al. 2014, arXiv:1405.0312 (COCO); the matching is pycocotools'.
    Differs: an object's area is that of its box, not of its outline, since most box labels have none.
    """
    from pycocotools.cocoeval import COCOeval

    judge = COCOeval(iouType="bbox")
    everything, *sizes = judge.params.areaRng
    at = {"class": [], "score": [], "hits": [], "ignored": []}  # type: dict[str, list[Any]]
    objects, sized, recalled = [], np.zeros((classes, len(SIZES)), int), np.zeros((classes, len(SIZES)), int)
    most = judge.params.maxDets[-1]
    for label in range(classes):
        place = (0, label)
        judge._gts[place], judge._dts[place] = _of_class(found, reference, label)
        judge.ious = {place: judge.computeIoU(*place)}
        whole = judge.evaluateImg(*place, everything, most)
        objects.append(0 if whole is None else int((whole["gtIgnore"] == 0).sum()))
        if whole is None:
            continue
        at["class"] += [label] * len(whole["dtScores"])
        at["score"] += whole["dtScores"]
        at["hits"] += _bits(whole["dtMatches"] > 0)
        at["ignored"] += _bits(whole["dtIgnore"])
        for size, limits in enumerate(sizes):
            one = judge.evaluateImg(*place, limits, most)
            sized[label, size] = (one["gtIgnore"] == 0).sum()
            recalled[label, size] = ((one["dtMatches"] > 0) & ~one["dtIgnore"]).sum()
    return {**at, "objects": objects, "sized": sized.tolist(), "recalled": recalled.tolist()}


def _of_class(
    found: np.ndarray, reference: np.ndarray, label: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is labelled and what is found of a class, as pycocotools has it; ids count from 1, since 0 is nobody's."""
    labelled, seen = [], []
    for number, (kind, *box) in enumerate(reference.tolist(), 1):
        if kind in (label, IGNORED_ALL, crowd(label)):
            area, many = (box[2] - box[0]) * (box[3] - box[1]), int(kind != label)
            labelled.append({"id": number, "bbox": _xywh(box), "area": area, "iscrowd": many, "ignore": many})
    for number, (kind, score, *box) in enumerate(found.tolist(), 1):
        if kind == label:
            area = (box[2] - box[0]) * (box[3] - box[1])
            seen.append({"id": number, "bbox": _xywh(box), "area": area, "score": round(score, 6)})
    return labelled, seen


def _xywh(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _bits(flags: np.ndarray) -> list[int]:
    """(T, N) -> N numbers."""
    bits: list[int] = (flags.T.astype(int) << np.arange(len(flags))).sum(1).tolist()
    return bits


def joined(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `matched` says of one frame, of several together."""
    lists = ("class", "score", "hits", "ignored")
    return {name: [value for one in details for value in one[name]] for name in lists} | {
        name: np.sum([one[name] for one in details], axis=0).tolist() for name in ("objects", "sized", "recalled")
    }


def pool(details: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """COCO's figures of a set of frames; nan where there are no such objects.

    Returns:
        "map", the mean of the average precision over IoU 0.50 to 0.95 and over the classes that have objects; "ap50"
        and "ap75" at one overlap; "recall_small", "recall_medium", "recall_large": share of the objects of a size that
        the best 100 boxes of a frame find, mean over the overlaps and classes.

    Source: Lin et al. 2014, arXiv:1405.0312 (COCO).
    Differs: as `average_precision` and `matched` do.
    """
    each = precisions(details)
    sized, recalled = (np.sum([one[name] for one in details], axis=0) for name in ("sized", "recalled"))
    recall = np.divide(recalled, PER_OBJECT * sized, out=np.full(sized.shape, math.nan), where=sized > 0)
    return {
        "map": _mean(each),
        "ap50": _mean(each[:, OVERLAPS.index(0.5)]),
        "ap75": _mean(each[:, OVERLAPS.index(0.75)]),
        **{f"recall_{name}": _mean(recall[:, size]) for size, name in enumerate(SIZES)},
    }


def precisions(details: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(K, T) average precision of each class at each of `OVERLAPS`; nan for a class without objects."""
    kinds, scores, hits, ignored = (
        np.fromiter(chain.from_iterable(one[name] for one in details), float)
        for name in ("class", "score", "hits", "ignored")
    )
    objects = np.sum([one["objects"] for one in details], axis=0)
    bits, each = 1 << np.arange(len(OVERLAPS))[:, None], []
    for label, count in enumerate(objects.tolist()):
        own = kinds == label
        hit, neither = ((values[own].astype(int) & bits) > 0 for values in (hits, ignored))
        each.append(average_precision(scores[own], hit, count, neither))
    return np.array(each)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
