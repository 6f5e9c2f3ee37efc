"""Label files as classes on the pixels of their frames: masks of class numbers, and lanes as polylines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from domains.driving.classes import VOID
from domains.driving.readers import read_ids
from domains.errors import Refused

LANE_WIDTH = 0.02
"""Of the frame's width: how wide a lane is drawn, at least two pixels."""


def frame_label(
    path: Path, shape: tuple[int, int], num_classes: int, values: Mapping[int, int] | None = None
) -> np.ndarray:
    """(H, W) uint8 classes 0..num_classes-1, 255 where nothing is labelled.

    Args:
        path: of the mask.
        shape: (H, W) of its frame.
        num_classes: of the head.
        values: file value -> class; the others are void. Without it a value is its class, and 255 and the first value
            after the classes are void.

    Raises:
        Refused: not a mask, of another size, or with a value that is no class.
    """
    ids = read_ids(path)
    if ids.shape != shape:
        sizes = [" x ".join(map(str, size)) for size in (ids.shape, shape)]
        raise Refused(f"mask of {sizes[0]} pixels for a frame of {sizes[1]}")
    table = np.full(256, VOID, np.uint8)
    if values is None:
        unknown = [int(v) for v in np.unique(ids) if num_classes < v < VOID]
        if unknown:
            raise Refused(
                f"mask values {unknown[:5]} are no class (known: 0..{num_classes - 1}, void {num_classes}, 255)"
            )
        values = {value: value for value in range(num_classes)}
    for value, label_class in values.items():
        table[value] = label_class
    label: np.ndarray = table[ids]
    return label


def lane_label(path: Path, frames: range, exist: int, stored: tuple[int, int], native: tuple[int, int]) -> np.ndarray:
    """(T, H, W) uint8 on the stored grid: 1 on a lane, 0 beside it, 255 on frames that no line of the file is about.

    A line is TuSimple's `{"lanes": [[x, ...], ...], "h_samples": [y, ...], "frame": n}` in pixels of the source, where
    a negative x is no point; `frame` counts from 0 in the whole recording, which has `exist` frames, of which these are
    those numbered `frames`.

    Raises:
        Refused: not such a file, about frames that do not exist, or about none.
    """
    label = np.full((len(frames), *stored), VOID, np.uint8)
    height, width = stored
    scale = np.array([width / native[1], height / native[0]])
    for number, line in _lines(path):
        if not 0 <= number < exist:
            raise Refused(f"lanes of frame {number}, but the recording has frames 0..{exist - 1}")
        if number not in frames:
            continue
        drawn = Image.new("L", (width, height))
        pen = ImageDraw.Draw(drawn)
        for lane in line["lanes"]:
            points = [(x, y) for x, y in zip(lane, line["h_samples"], strict=True) if x >= 0]
            if len(points) > 1:
                pen.line([tuple(point) for point in np.array(points) * scale], 1, max(2, round(LANE_WIDTH * width)))
        label[number - frames.start] = np.asarray(drawn)
    if not (label != VOID).any():
        raise Refused("no labelled frame in it")
    return label


def _lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        for line in lines:
            if any(len(lane) != len(line["h_samples"]) for lane in line["lanes"]):
                raise Refused("a lane has another number of points than h_samples")
        return [(int(line["frame"]), line) for line in lines]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Refused(f"not lanes as JSON lines with lanes, h_samples and frame ({type(error).__name__})") from None
