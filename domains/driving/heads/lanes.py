"""The lanes head: where the lines beside and beyond the own lane run, row by row.

A prediction is (T, slots, rows, 3) float32: x and y in pixels of the source and the probability that the lane is there,
for every frame of the subject (see `domains/driving/lanes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from domains.driving import show
from domains.driving.clips import nearest
from domains.driving.entries import Grid, normalised, open_entry
from domains.driving.hough import hough_lanes
from domains.driving.lane_score import case_f1, pool, score, summarise
from domains.driving.lanes import SLOTS, at_rows, lanes_at, present
from domains.driving.shapes import Shape, Shapes, judged_shapes
from domains.head import Evidence, Head, Prediction
from domains.manifest import Contract
from ssl_models.decoders.rows import CELL, RowDecoder, row_loss, row_places
from ssl_models.protocols import Batch

FRAMES_AT_ONCE = 16


def targets(shapes: Sequence[Shape], shape: tuple[int, int]) -> np.ndarray:
    """(slots, R) float32 x in pixels of a crop of (H, W) `shape` at the middle of every row of cells, nan: no lane."""
    return lanes_at(shapes, _rows(shape[0]), shape)


def _rows(height: int) -> np.ndarray:
    return (np.arange(height // CELL) + 0.5) * CELL


def decoder(encoder: Any, classes: int) -> nn.Module:
    """A row decoder for `SLOTS` lanes."""
    return RowDecoder(widths=encoder.widths, strides=encoder.strides, slots=SLOTS)


def loss(logits: Tensor, batch: Batch) -> Tensor:
    """() `row_loss` of the decoder's rows against x at each of them."""
    assert batch.targets is not None, "a head learns from labelled batches"
    return row_loss(logits, batch.targets)


def window(shape: tuple[int, int], crop: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns that a model sees of a stored frame: a crop's size, in the middle of its lower edge.

    All of it where the frame has the crop's aspect; else sky, or what lies far to the sides, is left out.
    """
    (height, width), (tall, wide) = shape, crop[-2:]
    left = (width - wide) // 2
    return slice(height - tall, height), slice(left, left + wide)


def of_frames(
    model: nn.Module, frames: np.ndarray, contract: Contract, native_shape: tuple[int, int]
) -> list[np.ndarray]:
    """For each frame (slots, rows, 3) float32, see this file's first lines.

    Args:
        model: crops -> the decoder's rows.
        frames: (N, H, W, 3) uint8 on the stored grid; a model of clips takes them as following each other at its rate.
        contract: of the model.
        native_shape: (H, W) of the source.
    """
    rows, columns = window(frames.shape[1:3], contract.crop_shape)
    colour = contract.rules["colour_mean"], contract.rules["colour_deviation"]
    crops = torch.from_numpy(normalised(frames[:, rows, columns], *colour)).transpose(0, 1)  # (N, 3, H, W)
    length = contract.crop_shape[0] if contract.time_axis else 1
    if contract.time_axis:  # the last clip is filled up with its last frame
        filled = torch.cat([crops, crops[-1:].expand(-len(crops) % length, -1, -1, -1)])
        crops = filled.unflatten(0, (-1, length)).transpose(1, 2)
    found = _rows_of(model, crops, max(1, FRAMES_AT_ONCE // length))
    x, there = (one.flatten(0, -3).numpy() for one in row_places(found))  # (N, slots, rows), clips one after the other
    scale = np.array(native_shape) / frames.shape[1:3]
    y = (_rows(contract.crop_shape[-2]) + rows.start) * scale[0]
    whole = np.stack([(x + columns.start) * scale[1], np.broadcast_to(y, x.shape), there], -1).astype(np.float32)
    return list(whole[: len(frames)])


def _rows_of(model: nn.Module, crops: Tensor, at_once: int) -> Tensor:
    """The decoder's rows on the CPU; no gradients, and the model is left as it was."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        with torch.inference_mode():
            return torch.cat([model(some.contiguous().to(device)).cpu() for some in crops.split(at_once)])
    finally:
        model.train(training)


def predict(model: nn.Module, folder: Path, contract: Contract) -> Prediction:
    """Lanes on every stored frame of a subject.

    A model of clips sees frames at the contract's rate; one between two of these gets the lanes of the nearest.
    """
    entry = open_entry(folder)
    indices, back = np.arange(len(entry)), np.arange(len(entry))
    if contract.time_axis:
        pts, step = entry.pts_seconds, 1 / contract.rules["frames_per_second"]
        times = np.arange(pts[0], pts[-1] + step / 2, step)
        indices, back = nearest(pts, times), nearest(times, pts)
    length = contract.crop_shape[0] if contract.time_axis else 1
    step_frames = max(1, FRAMES_AT_ONCE // length) * length
    found: list[np.ndarray] = []
    for start in range(0, len(indices), step_frames):
        frames = entry.read(indices[start : start + step_frames].tolist())
        found += of_frames(model, frames, contract, entry.grid.native_shape)
    return np.stack(found)[back]


def hough(folder: Path, contract: Contract) -> Prediction:
    """The two lines of the own lane by edges and straight lines, at the rows of `predict`, each with probability 1."""
    entry = open_entry(folder)
    grid, rows = entry.grid, _rows(contract.crop_shape[-2])
    found = []
    for index in range(len(entry)):
        [frame] = entry.read([index])
        shapes = [Shape(0, 0, line.astype(np.float32)) for line in hough_lanes(frame)]
        found.append(from_shapes(shapes, rows + grid.stored_shape[0] - contract.crop_shape[-2], grid))
    return np.stack(found)


def from_shapes(shapes: Sequence[Shape], rows: np.ndarray, grid: Grid) -> np.ndarray:
    """(slots, R, 3) as `of_frames` gives it, of lanes and rows on the stored grid."""
    x = lanes_at(shapes, rows, grid.stored_shape)
    scale = np.array(grid.native_shape) / grid.stored_shape
    known_x = np.nan_to_num(x) * scale[1]
    y = np.broadcast_to(rows * scale[0], x.shape)
    return np.stack([known_x, y, np.isfinite(x)], -1).astype(np.float32)


def as_json(prediction: np.ndarray) -> dict[str, Any]:
    """A frame's lanes as TuSimple has them: `lanes` of x, -2 where they are not, at the rows `h_samples`; `slots`, from
    left to right, the own lane between 2 and 3; `scores`, mean probabilities.
    """
    rows, lanes, slots, scores = prediction[0, :, 1], [], [], []
    for slot, points in present(prediction):
        x = at_rows(points.astype(np.float64), rows, np.inf)
        lanes.append([round(float(one), 1) if np.isfinite(one) else -2 for one in x])
        slots.append(slot)
        scores.append(round(float(prediction[slot, np.isfinite(x), 2].mean()), 3))
    return {"lanes": lanes, "h_samples": [round(float(y), 1) for y in rows], "slots": slots, "scores": scores}


def drawn(frame: np.ndarray, prediction: np.ndarray, contract: Contract) -> np.ndarray:
    """The native frame (H, W, 3) uint8 with a frame's lanes on it, each slot in its colour."""
    return show.with_lanes(frame, present(prediction))


def confidence(prediction: np.ndarray) -> float:
    """0..1, how sure a frame's lanes are: the mean distance of the probabilities from a half, doubled."""
    return float(np.abs(2 * prediction[..., 2] - 1).mean())


def write_label(prediction: Prediction, folder: Path, out: Path, contract: Contract) -> None:
    """Writes the lanes that are there as a label entry of the subject entry `folder`, every frame labelled."""
    shapes = [Shape(frame, 0, points) for frame, one in enumerate(prediction) for _, points in present(one)]
    Shapes(range(len(prediction)), shapes).save(out)
    open_entry(folder).grid.save(out)


def picture(folder: Path, prediction: Prediction, label: Path | None, evidence: Evidence | None = None) -> bytes:
    """PNG of a frame with the predicted lanes and beside it with the labelled ones; of a recording of a labelled frame
    near its middle.
    """
    entry = open_entry(folder)
    truth = None if label is None else judged_shapes(label)
    at = len(entry) // 2
    if truth is not None and len(truth.labelled):
        at = int(truth.labelled[np.abs(truth.labelled - at).argmin()])
    [frame], native = entry.read([at]), entry.grid.native_shape
    large = show.enlarged(frame, native)
    columns = {"prediction": show.with_lanes(large, present(prediction[at]))}
    if truth is not None:
        reference = lanes_at(truth.on(at), np.arange(native[0]) + 0.5, native)
        rows = np.arange(native[0]) + 0.5
        named = [(slot, np.stack([x, rows], 1)[np.isfinite(x)]) for slot, x in enumerate(reference)]
        columns["reference"] = show.with_lanes(large, [(slot, points) for slot, points in named if len(points) > 1])
    return show.side_by_side(columns)


HEAD = Head(
    name="lanes",
    primary_metric="lane_f1",
    case_metric="case_f1",
    loss=loss,
    predict=predict,
    trivial=hough,
    trivial_name="Hough lines, one on each side",
    score=score,
    primary_score=case_f1,
    summarise=summarise,
    picture=picture,
    of_frames=of_frames,
    accounting=(
        "The settings of the Hough competitor were chosen among 324 on the labels of highway_lanes and tusimple_lanes "
        "themselves, in its favour.",
    ),
    decoder=decoder,
    pool=pool,
    write_mask=write_label,
    counts_subjects=True,
)
