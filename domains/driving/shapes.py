"""Labels that are points and not pixels: lanes and boxes on some frames of a recording, as files and moved about.

Points are x, y in pixels from the frame's left and top edge: pixel i reaches from i to i + 1. A label entry holds
`shapes.npz` in pixels of the source and `grid.json`, so that one truth is judged (`judged_shapes`) and, scaled,
learned from (`open_shapes`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from domains.driving.entries import Grid

FILE = "shapes.npz"


@dataclass(frozen=True)
class Shape:
    """A lane, or a box by two opposite corners, on one frame."""

    frame: int
    """Counted from the recording's first one."""
    kind: int
    """Class, from 0."""
    points: np.ndarray
    """(N, 2) float32 x, y. x is nan where a lane's label looked and found nothing: TuSimple counts these rows."""


Targets = Callable[[Sequence[Shape], tuple[int, int]], np.ndarray]
"""A frame's shapes in pixels of its crop, (H, W) of the crop -> what a head's loss takes for it. Of a frame that is not
labelled at all, which only a clip can hold, the loss takes the same array full of `UNLABELLED`."""
UNLABELLED = np.inf


class Shapes:
    """The label of a recording: which frames were looked at, and what is on them.

    A labelled frame without shapes is a negative; a frame that is not labelled tells nothing.
    """

    def __init__(self, labelled: Iterable[int], shapes: Iterable[Shape]) -> None:
        """Raises ValueError where a shape lies on a frame that is not labelled."""
        self.labelled = np.array(sorted(set(labelled)), np.int64)
        self._of: dict[int, list[Shape]] = {int(frame): [] for frame in self.labelled}
        for shape in shapes:
            if shape.frame not in self._of:
                raise ValueError(f"a shape on frame {shape.frame}, which is not labelled")
            self._of[shape.frame].append(shape)

    def on(self, frame: int) -> list[Shape]:
        """Shapes of a labelled frame, in the label's order.

        Raises:
            KeyError: the frame is not labelled.
        """
        return self._of[frame]

    def __iter__(self) -> Iterator[Shape]:
        return (shape for frame in self.labelled for shape in self._of[int(frame)])

    def moved(self, matrix: np.ndarray) -> Shapes:
        """All of them by an affine matrix, see `moved`."""
        return Shapes(self.labelled.tolist(), [moved(shape, matrix) for shape in self])

    @property
    def digest(self) -> str:
        """sha256 (hex) of what is in it."""
        found = hashlib.sha256(self.labelled.tobytes())
        for shape in self:
            found.update(repr((shape.frame, shape.kind, len(shape.points))).encode() + shape.points.tobytes())
        return found.hexdigest()

    def save(self, folder: Path) -> None:
        """Writes `shapes.npz`; equal shapes give equal bytes."""
        all_shapes = list(self)
        np.savez(
            folder / FILE,
            labelled=self.labelled,
            frame=np.array([shape.frame for shape in all_shapes], np.int64),
            kind=np.array([shape.kind for shape in all_shapes], np.int64),
            length=np.array([len(shape.points) for shape in all_shapes], np.int64),
            points=np.concatenate([np.zeros((0, 2), np.float32), *(shape.points for shape in all_shapes)]),
        )


def moved(shape: Shape, matrix: np.ndarray) -> Shape:
    """The shape with its points times (2, 3) `matrix`: x, y -> matrix @ (x, y, 1). nan stays nan."""
    y, x = shape.points[:, 1], shape.points[:, 0]
    known = np.nan_to_num(x)  # where nothing was found the row still moves, as if it were at the left edge
    points = np.stack([known, y, np.ones_like(y)], 1) @ matrix.T.astype(np.float64)
    points[np.isnan(x), 0] = np.nan
    return Shape(shape.frame, shape.kind, points.astype(np.float32))


def scaling(old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """(2, 3) matrix that takes points of a frame of (H, W) `old` to the same frame of (H, W) `new`."""
    return np.array([[new[1] / old[1], 0, 0], [0, new[0] / old[0], 0]])


def shifting(left: float, top: float) -> np.ndarray:
    """(2, 3) matrix that takes points of a frame to those of a window of it that begins at `left`, `top`."""
    return np.array([[1, 0, -left], [0, 1, -top]], np.float64)


def judged_shapes(folder: Path) -> Shapes:
    """What a prediction is judged against: a label entry in pixels of the source."""
    with np.load(Path(folder) / FILE) as file:
        ends = np.cumsum(file["length"])[:-1]
        each = np.split(file["points"], ends) if len(file["length"]) else []
        shapes = [Shape(int(f), int(k), p) for f, k, p in zip(file["frame"], file["kind"], each, strict=True)]
        return Shapes(file["labelled"].tolist(), shapes)


def open_shapes(folder: Path) -> Shapes:
    """What is learned from: a label entry in pixels of the stored frames."""
    grid = Grid.load(Path(folder))
    return judged_shapes(folder).moved(scaling(grid.native_shape, grid.stored_shape))


def corners(box: Shape) -> Shape:
    """A box's four corners instead of two, so that it can be turned."""
    (x1, y1), (x2, y2) = box.points
    return Shape(box.frame, box.kind, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32))
