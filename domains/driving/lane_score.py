"""Lanes judged: CULane's F1, TuSimple's figures and jitter, of one subject and of many together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from domains.driving import culane, tusimple
from domains.driving.entries import open_entry
from domains.driving.lanes import THERE, at_rows, jitter, known, lanes_at, present
from domains.driving.shapes import Shape, Shapes, judged_shapes
from domains.head import Prediction

CONSECUTIVE_SECONDS = 0.25
"""Between two frames, at most, for a lane's movement to be called jitter."""
ROWS_JUDGED = 48
"""By TuSimple's rules, of a frame whose label has no rows of its own."""


def score(prediction: Prediction, folder: Path, label: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """ "case_f1", CULane's F1 at IoU 0.5 over the labelled frames of one subject; the counts for `pool`.

    A subject without any lane is judged 1 where none is predicted, else 0.
    """
    entry, truth = open_entry(folder), judged_shapes(label)
    native = entry.grid.native_shape
    found = np.zeros(len(culane.THRESHOLDS), np.int64)
    counts = {"predicted": 0, "there": 0}
    figures = np.zeros(3)
    for frame in truth.labelled.tolist():
        ours = [points for _, points in present(prediction[frame])]
        theirs = [lane for shape in truth.on(frame) if len(lane := known(shape)) > 1]
        found += _culane(ours, theirs, native)
        counts["predicted"] += len(ours)
        counts["there"] += len(theirs)
        figures += _tusimple(ours, truth.on(frame), native)
    f1 = culane.f1(int(found[0]), counts["predicted"], counts["there"])
    detail = {
        **counts, "found": found.tolist(), "frames": len(truth.labelled), "tusimple": figures.round(6).tolist(),
        "jitter": _jitter(prediction, truth, entry.pts_seconds, native),
    }  # fmt: skip
    return {"case_f1": 1.0 if np.isnan(f1) else f1}, detail


def _culane(ours: list[np.ndarray], theirs: list[np.ndarray], native: tuple[int, int]) -> list[int]:
    scale = culane.WIDTH / native[1]
    size = round(native[0] * scale), culane.WIDTH
    return culane.matches([lane * scale for lane in ours], [lane * scale for lane in theirs], size)


def _tusimple(ours: list[np.ndarray], truth: list[Shape], native: tuple[int, int]) -> np.ndarray:
    """The three figures of a frame, in pixels of one 1280 wide, at the label's own rows if its lanes share some."""
    scale = tusimple.WIDTH / native[1]
    own = {tuple(shape.points[:, 1].tolist()) for shape in truth}
    if len(own) == 1:
        rows, theirs = np.array(next(iter(own))), [np.nan_to_num(s.points[:, 0], nan=-2 / scale) for s in truth]
    else:
        rows = (np.arange(ROWS_JUDGED) + 0.5) * native[0] / ROWS_JUDGED
        theirs = [np.nan_to_num(at_rows(known(s), rows, native[1]), nan=-2 / scale) for s in truth]
    mine = [np.nan_to_num(at_rows(lane, rows, native[1]), nan=-2 / scale) for lane in ours]
    judged = tusimple.judge([x * scale for x in mine], [x * scale for x in theirs], (rows * scale).tolist())
    return np.array(judged)


def _jitter(prediction: Prediction, truth: Shapes, pts_seconds: np.ndarray, native: tuple[int, int]) -> dict[str, Any]:
    """Sum and count of `jitter` over labelled frames that follow each other, of the prediction and of the label."""
    frames = truth.labelled
    consecutive = np.diff(frames, prepend=frames[:1] - 2) == 1
    seconds = np.where(consecutive, 0, 1e6).cumsum() + pts_seconds[frames]  # a frame left out is a gap
    ours = np.where(prediction[frames, ..., 2] > THERE, prediction[frames, ..., 0], np.nan)
    rows = prediction[0, 0, :, 1].astype(np.float64)
    theirs = np.stack([lanes_at(truth.on(frame), rows, native) for frame in frames.tolist()])
    return {
        "model": jitter(ours, seconds, CONSECUTIVE_SECONDS),
        "label": jitter(theirs, seconds, CONSECUTIVE_SECONDS),
    }


def pool(details: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Figures of all labelled frames of a set of subjects together.

    "lane_f1" is CULane's F1 at IoU 0.5 with lanes 30 pixels wide in a frame 1640 wide, "lane_mean_f1" the mean over IoU
    0.50, 0.55 ... 0.95; "tusimple_accuracy", "tusimple_fp", "tusimple_fn" are means over frames, in pixels of a frame
    1280 wide; "jitter_px_per_s" is how fast the lanes move sideways in pixels of the source (see `lanes.jitter`).
    """
    total = {key: sum(detail[key] for detail in details) for key in ("predicted", "there", "frames")}
    found = np.sum([detail["found"] for detail in details], axis=0).tolist()
    each = [culane.f1(hits, total["predicted"], total["there"]) for hits in found]
    accuracy, made_up, missed = np.sum([d["tusimple"] for d in details], axis=0) / max(1, total["frames"])
    return {
        "lane_f1": each[0],
        "lane_mean_f1": float(np.mean(each)),
        "tusimple_accuracy": float(accuracy),
        "tusimple_fp": float(made_up),
        "tusimple_fn": float(missed),
        "jitter_px_per_s": _mean_jitter(details, "model"),
    }


def _mean_jitter(details: Sequence[dict[str, Any]], whose: str) -> float:
    moved, points = np.sum([detail["jitter"][whose] for detail in details], axis=0)
    return float(moved / points) if points else float("nan")


def summarise(details: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Frames and lanes judged, and the labels' own jitter."""
    if not details:
        return {}
    own = _mean_jitter(details, "label")
    total = {key: sum(detail[key] for detail in details) for key in ("frames", "there", "predicted")}
    return {
        "frames": total["frames"], "lanes": total["there"], "lanes_predicted": total["predicted"],
        "jitter_of_the_labels_px_per_s": None if np.isnan(own) else round(own, 2),
    }  # fmt: skip


def case_f1(prediction: Prediction, folder: Path, label: Path) -> float:
    """The "case_f1" of `score` by itself."""
    return score(prediction, folder, label)[0]["case_f1"]
