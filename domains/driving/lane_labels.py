"""Files of lanes as shapes in pixels of the source: JSON lines, TuSimple, CULane, and masks with a number a lane."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from domains.domain import Candidate
from domains.driving.readers import read_ids
from domains.driving.shapes import Shape, Shapes
from domains.errors import Refused

Line = Mapping[str, Any]
"""TuSimple's `lanes`, a list of x for each lane, negative where it is not, and `h_samples`, the rows they are at."""
LANE = 0
"""The only kind of shape."""
ROW_STEP = 10
"""Rows between two points of a lane that comes from a mask, of the source."""
SMALLEST = 0.0005
"""Of the mask: fewer pixels make no lane."""


def lane_shapes(candidate: Candidate, frames: range, exist: int, native: tuple[int, int]) -> Shapes:
    """Lanes of a candidate on its frames, in pixels of the source.

    Args:
        candidate: with a label, and what `lane_files.attach` or the mask's layout noted about it.
        frames: numbers in the recording of the candidate's frames; a part of a recording does not begin at 0.
        exist: how many frames the whole recording has.
        native: (H, W) of a frame.

    Raises:
        Refused: not such a file, about frames that do not exist (which are named), or about none of these.
    """
    assert candidate.label is not None
    if candidate.notes.get("label_kind") == "lane_mask":
        return Shapes([0], from_mask(candidate.label, native, candidate.notes.get("lane_values")))
    if candidate.label.name.lower().endswith(".lines.txt"):
        return Shapes([0], from_culane(candidate.label))
    if "lanes" in candidate.notes:
        return shapes_of(candidate.notes["lanes"], frames, exist)
    lines = read_json_lines(candidate.label)
    if "frame" in candidate.notes:  # a still of a sequence whose frames share one file
        number = candidate.notes["frame"]
        lines = {0: lines[number]} if number in lines else {}
    return shapes_of(lines, frames, exist)


def shapes_of(lines: Mapping[int, Line], frames: range, exist: int) -> Shapes:
    """Lanes of the frames in `frames`, which are numbered from 0 then.

    Raises:
        Refused: a line is about a frame that does not exist, or none about these.
    """
    if wrong := [number for number in lines if not 0 <= number < exist]:
        named = ", ".join(map(str, wrong[:5])) + (" ..." if len(wrong) > 5 else "")
        raise Refused(f"lanes of frame {named}, but the recording has frames 0..{exist - 1}")
    here = {number - frames.start: line for number, line in lines.items() if number in frames}
    if not here:
        raise Refused("no labelled frame in it")
    return Shapes(here, [shape for number, line in here.items() for shape in from_line(number, line)])


def from_line(frame: int, line: Line) -> list[Shape]:
    """Lanes of one line; one with fewer than two points is none, and a row where it is not has the x nan."""
    rows, shapes = np.array(line["h_samples"], np.float32), []
    for lane in line["lanes"]:
        x = np.array(lane, np.float32)
        if (x >= 0).sum() > 1:
            shapes.append(Shape(frame, LANE, np.stack([np.where(x >= 0, x, np.nan), rows], 1)))
    return shapes


def line_of(values: Any) -> Line:
    """The lanes and rows of a parsed line.

    Raises:
        ValueError: a lane has another number of points than rows, or there is something else than numbers.
        KeyError: one of them is missing.
    """
    lanes, rows = values["lanes"], values["h_samples"]
    if any(len(lane) != len(rows) for lane in lanes):
        raise ValueError("a lane has another number of points than h_samples")
    if not all(isinstance(x, int | float) and np.isfinite(x) for row in (rows, *lanes) for x in row):
        raise ValueError("something else than numbers in it")
    return {"lanes": lanes, "h_samples": rows}


def read_json_lines(path: Path) -> dict[int, Line]:
    """Frame number, from 0 -> its line.

    Raises:
        Refused: not JSON lines with frame, lanes and h_samples, or two for one frame.
    """
    found: dict[int, Line] = {}
    try:
        for text in path.read_text().splitlines():
            if text.strip():
                values = json.loads(text)
                number = values["frame"]
                if not isinstance(number, int):
                    raise ValueError("a frame that is no whole number")
                if number in found:
                    raise ValueError(f"two lines for frame {number}")
                found[number] = line_of(values)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError) as error:
        raise Refused(f"not lanes as JSON lines with lanes, h_samples and frame ({type(error).__name__})") from None
    except (TypeError, ValueError) as error:
        raise Refused(f"not lanes as JSON lines with lanes, h_samples and frame ({error})") from None
    return found


def from_culane(path: Path) -> list[Shape]:
    """Lanes of one image: a line each, `x1 y1 x2 y2 ...`; none of an empty file.

    Raises:
        Refused: something else.
    """
    try:
        rows = [np.array(line.split(), np.float32) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise Refused(f"not CULane's lines of x y x y ... ({type(error).__name__})") from None
    if any(len(row) % 2 or not np.isfinite(row).all() for row in rows):
        raise Refused("not CULane's lines of x y x y ...: an odd count of numbers, or an endless one")
    return [Shape(0, LANE, row.reshape(-1, 2)) for row in rows if len(row) > 2]


def from_mask(path: Path, native: tuple[int, int], values: Sequence[int] | None) -> list[Shape]:
    """Lanes of one mask: the middle of their pixels at every tenth row.

    A value is a lane, as in CULane's `laneseg_label`, and 0 and 255 are none. Where `values` says which values are
    lane paint, or there is only one, what hangs together is a lane: a dashed one falls to pieces.

    Raises:
        Refused: not a mask, or of another size.
    """
    ids = read_ids(path)
    if ids.shape != native:
        sizes = [" x ".join(map(str, size)) for size in (ids.shape, native)]
        raise Refused(f"mask of {sizes[0]} pixels for a frame of {sizes[1]}")
    present = [int(value) for value in np.unique(ids) if value not in (0, 255)]
    if values is not None or len(present) == 1:
        paint = np.isin(ids, values if values is not None else present)
        ids, pieces = ndimage.label(paint, np.ones((3, 3)))
        present = list(range(1, pieces + 1))
    lanes = [_middles(ids == value) for value in present if (ids == value).sum() >= SMALLEST * ids.size]
    return [Shape(0, LANE, points) for points in lanes if len(points) > 1]


def _middles(lane: np.ndarray) -> np.ndarray:
    """(N, 2) x, y of the mean of a lane's pixels in every `ROW_STEP`-th row."""
    rows = np.arange(ROW_STEP // 2, len(lane), ROW_STEP)
    counts = lane[rows].sum(1)
    sums = (lane[rows] * (np.arange(lane.shape[1]) + 0.5)).sum(1)
    there = counts > 0
    return np.stack([sums[there] / counts[there], rows[there] + 0.5], 1).astype(np.float32)
