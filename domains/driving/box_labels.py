"""Files of labelled boxes - COCO, YOLO, KITTI - as boxes with names, and as shapes on the frames they are about."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from domains.domain import Candidate
from domains.driving.coco import IGNORED_ALL, crowd
from domains.driving.shapes import Shape, Shapes, corners
from domains.errors import Refused

SYNONYMS = {
    "vehicle": "car truck bus van automobile pickup suv lorry trailer caravan",
    "pedestrian": "person people walker personsitting child",
    "cyclist": "bicyclist rider bicycle bike motorcycle motorcyclist motorbike motor scooter",
}
"""Class -> other words for it, without spaces and strokes."""
DONT_CARE = "dontcare"


@dataclass(frozen=True)
class Box:
    """One labelled box, as its file has it."""

    name: str
    corners: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels, or in shares of the frame."""
    is_crowd: bool = False
    """COCO: it holds many of them."""


@dataclass(frozen=True)
class Boxes:
    """What a file says of one frame."""

    boxes: tuple[Box, ...]
    size: tuple[int, int] | None = None
    """(H, W) of the frame, where the file says it."""
    in_shares: bool = False


@dataclass(frozen=True)
class CocoFile:
    """A COCO file, read."""

    of: Mapping[str, Boxes]
    """File name of an image, or the number of a recording's frame -> its boxes; an image may have none."""
    astray: int
    """Annotations of images that the file does not have."""


def label_class(name: str, classes: Sequence[str]) -> int | None:
    """Which of the recipe's classes a name means: one of them, or another word for one; None: it is unknown."""
    plain = _plain(name)
    for number, own in enumerate(classes):
        if plain == _plain(own):
            return number
    for number, own in enumerate(classes):
        if plain in SYNONYMS.get(_plain(own), "").split():
            return number
    return None


def is_known(name: str, classes: Sequence[str]) -> bool:
    """Whether boxes of that name are learned from, or tell where not to look."""
    return _plain(name) == DONT_CARE or label_class(name, classes) is not None


def box_shapes(candidate: Candidate, frames: range, exist: int, native: tuple[int, int]) -> Shapes:
    """Boxes of a candidate on its frames, in pixels of the source.

    Args:
        candidate: with a label, and what `box_files.attach` noted about it.
        frames: numbers in the recording of the candidate's frames; a part of a recording does not begin at 0.
        exist: how many frames the whole recording has.
        native: (H, W) of a frame.

    Raises:
        Refused: the file cannot be read, is about frames that do not exist (which are named) or about none of these, or
            has boxes that its frames cannot have.
    """
    assert candidate.label is not None
    how = candidate.notes["boxes"]
    said = boxes_of(candidate.label, how)
    if wrong := [number for number in said if not 0 <= number < exist]:
        named = ", ".join(map(str, wrong[:5])) + (" ..." if len(wrong) > 5 else "")
        raise Refused(f"boxes of frame {named}, but the recording has frames 0..{exist - 1}")
    here = {number - frames.start: boxes for number, boxes in said.items() if number in frames}
    if not here:
        raise Refused("no labelled frame in it")
    each = [shape for number, boxes in here.items() for shape in shapes_of(number, boxes, native, how["classes"])]
    return Shapes(here, each)


def boxes_of(label: Path, how: Mapping[str, Any]) -> dict[int, Boxes]:
    """Number of a frame in its recording -> its boxes, from a candidate's label.

    Args:
        label: the file.
        how: the candidate's `notes["boxes"]`: "format", and of COCO the "image", of YOLO the "names" of its classes.

    Raises:
        Refused: it cannot be read.
    """
    if how["format"] == "kitti":
        return {0: read_kitti(label)}
    if how["format"] == "yolo":
        return {0: read_yolo(label, how["names"])}
    of = read_coco(label).of
    if how["format"] == "coco":
        return {0: of[how["image"]]}
    if not all(place.isdigit() for place in of):
        raise Refused("an image in it without the number of its frame")
    return {int(place): boxes for place, boxes in of.items()}


def shapes_of(frame: int, said: Boxes, native: tuple[int, int], classes: Sequence[str]) -> list[Shape]:
    """Four corners of each box that has a known name, cut off at the frame's edges.

    Args:
        frame: number of the frame that the shapes get.
        said: of its boxes.
        native: (H, W) of the source.
        classes: of the recipe.

    Returns:
        Shapes whose kind is a class, `coco.crowd` of one, or `coco.IGNORED_ALL`; in pixels of the source.

    Raises:
        Refused: made for a frame of another size, or a box has no area or lies outside.
    """
    if said.size is not None and said.size != native:
        sizes = [" x ".join(map(str, size)) for size in (said.size, native)]
        raise Refused(f"boxes made for a frame of {sizes[0]} pixels; it has {sizes[1]}")
    height, width = native
    shapes = []
    for box in said.boxes:
        corner = np.array(box.corners, np.float64) * (np.array([width, height] * 2) if said.in_shares else 1)
        if not (corner[2:] > corner[:2]).all():
            raise Refused("a box without area")
        cut = corner.clip(0, [width, height] * 2)
        if not (cut[2:] > cut[:2]).all():
            raise Refused(f"a box outside the frame of {height} x {width} pixels")
        kind = _kind(box, classes)
        if kind is not None:
            shapes.append(corners(Shape(frame, kind, cut.reshape(2, 2).astype(np.float32))))
    return shapes


def _kind(box: Box, classes: Sequence[str]) -> int | None:
    if _plain(box.name) == DONT_CARE:
        return IGNORED_ALL
    label = label_class(box.name, classes)
    return label if label is None or not box.is_crowd else crowd(label)


def rows_of(shapes: Iterable[Shape]) -> np.ndarray:
    """(M, 5) float32 kind, x1, y1, x2, y2 around boxes by their four corners.

    Of a box that was turned it is what surrounds the ellipse in it: what surrounds its corners would be too large for
    any object that is not a box itself, and as it is if it was not turned.

    Source: Kalra et al. 2021, "Towards Rotation Invariance in Object Detection", arXiv 2109.13488.
    Differs: none.
    """
    rows = []
    for shape in shapes:
        middle = shape.points.mean(0)
        along, down = (shape.points[1] - shape.points[0]) / 2, (shape.points[3] - shape.points[0]) / 2
        reach = np.hypot(along, down)
        rows.append([shape.kind, *(middle - reach), *(middle + reach)])
    return np.array(rows, np.float32).reshape(-1, 5)


def read_coco(path: Path) -> CocoFile:
    """A COCO file of images with `file_name`, or of a recording's frames with `frame`.

    Raises:
        Refused: not such a file.
    """
    return _read_coco(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)  # one file labels thousands of frames, which ask one after the other
def _read_coco(path: Path, stamp: int) -> CocoFile:
    try:
        said = json.loads(path.read_text())
        names = {one["id"]: str(one["name"]) for one in said["categories"]}
        images = {one["id"]: one for one in said["images"]}
        found: dict[Any, list[Box]] = {number: [] for number in images}
        astray = 0
        for one in said["annotations"]:
            x, y, width, height = (_finite(value) for value in one["bbox"])
            box = Box(names[one["category_id"]], (x, y, x + width, y + height), bool(one.get("iscrowd", 0)))
            if one["image_id"] in found:
                found[one["image_id"]].append(box)
            else:
                astray += 1
        of = {_place(one): Boxes(tuple(found[number]), _size(one)) for number, one in images.items()}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Refused(f"not a COCO file with images, annotations and categories ({type(error).__name__})") from None
    if len(of) < len(images):
        raise Refused("two of its images have one name")
    return CocoFile(of, astray)


def _place(image: Mapping[str, Any]) -> str:
    return str(int(image["frame"])) if "frame" in image else str(image["file_name"])


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    return (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None


def read_yolo(path: Path, names: Sequence[str]) -> Boxes:
    """Boxes of one frame from lines `class x y width height`: middle and size in shares of the frame.

    Raises:
        Refused: not such a file, or a class without a name.
    """
    boxes = []
    for line in _lines(path):
        parts = line.split()
        if len(parts) not in (5, 6) or not parts[0].isdigit():
            raise Refused("a line is not: class, x, y, width, height (and perhaps a score)")
        if int(parts[0]) >= len(names):
            raise Refused(f"class {parts[0]}, but there are {len(names)} names in classes.txt or data.yaml")
        x, y, width, height = _numbers(parts[1:5])
        boxes.append(
            Box(names[int(parts[0])], (x - width / 2, y - height / 2, x + width / 2, y + height / 2)),
        )
    return Boxes(tuple(boxes), in_shares=True)


def read_kitti(path: Path) -> Boxes:
    """Boxes of one frame from KITTI's lines `type truncated occluded alpha x1 y1 x2 y2 ...`.

    Raises:
        Refused: not such a file.
    """
    boxes = []
    for line in _lines(path):
        parts = line.split()
        if len(parts) < 8:
            raise Refused("a line has fewer than eight columns: type, truncated, occluded, alpha, x1, y1, x2, y2")
        x1, y1, x2, y2 = _numbers(parts[4:8])
        boxes.append(Box(parts[0], (x1, y1, x2, y2)))
    return Boxes(tuple(boxes))


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"not a text file ({type(error).__name__})") from None


def _numbers(parts: Sequence[str]) -> list[float]:
    try:
        return [_finite(part) for part in parts]
    except ValueError:
        raise Refused("a coordinate is not a number") from None


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _plain(name: str) -> str:
    return re.sub(r"[\s_/-]", "", name).lower()
