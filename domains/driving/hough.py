"""The competitor of every lane model: edges in front of the car, straight lines through them, one each side."""

from __future__ import annotations

import numpy as np

ENLARGED = 2
"""A stored frame is small for edges."""
REGION = ((0.04, 1.0), (0.45, 0.5), (0.55, 0.5), (0.96, 1.0))
"""Corners of the road in front, x and y as shares of the frame."""
BLUR, CANNY = 5, (50, 150)
VOTES, SHORTEST, LONGEST_GAP = 12, 0.06, 0.08
"""Of a line; lengths as shares of the frame's width."""
SLOPES = (0.4, 2.5)
"""Of a lane, down for one pixel across: flatter ones are shadows and bumpers, steeper ones posts."""


def hough_lanes(frame: np.ndarray) -> list[np.ndarray]:
    """Left and right line of the own lane, where found, each (2, 2) x, y from the top of the region to the bottom.

    Args:
        frame: (H, W, 3) uint8.

    Source: Duda and Hart 1972, doi:10.1145/361237.361242; Canny 1986, doi:10.1109/TPAMI.1986.4767851; the recipe of
        course work on lane finding: grey, blur, edges, region, lines, their mean on each side.
    Differs: the mean of a side is weighted by length.
    """
    import cv2

    height, width = frame.shape[:2]
    large = cv2.resize(frame, (width * ENLARGED, height * ENLARGED), interpolation=cv2.INTER_LINEAR)
    grey = cv2.GaussianBlur(cv2.cvtColor(large, cv2.COLOR_RGB2GRAY), (BLUR, BLUR), 0)
    size = np.array([large.shape[1], large.shape[0]])
    region = np.zeros_like(grey)
    cv2.fillPoly(region, [np.rint(np.array(REGION) * size).astype(np.int32)], 255)
    edges = cv2.bitwise_and(cv2.Canny(grey, *CANNY), region)
    lines = cv2.HoughLinesP(edges, 1, np.pi / 180, VOTES, minLineLength=SHORTEST * size[0],
                            maxLineGap=LONGEST_GAP * size[0])  # fmt: skip
    pieces = np.zeros((0, 4)) if lines is None else lines.reshape(-1, 4).astype(np.float64)
    top = min(y for _, y in REGION) * height
    return [line for side in (-1, 1) if (line := _mean_line(pieces / ENLARGED, side, top, (height, width))) is not None]


def _mean_line(pieces: np.ndarray, side: int, top: float, size: tuple[int, int]) -> np.ndarray | None:
    """The mean of the pieces (N, 4) that lie on one side (-1 left, 1 right) and lean as a lane there does."""
    dx, dy = pieces[:, 2] - pieces[:, 0], pieces[:, 3] - pieces[:, 1]
    lean = np.abs(dy) / np.maximum(np.abs(dx), 1e-6)
    middle = (pieces[:, 0] + pieces[:, 2]) / 2 - size[1] / 2
    ours = (dx * dy * side > 0) & (lean > SLOPES[0]) & (lean < SLOPES[1]) & (middle * side > 0)
    if not ours.any():
        return None
    length = np.hypot(dx, dy)[ours]
    slope = np.average(dx[ours] / dy[ours], weights=length)  # across for one pixel down, which no upright line breaks
    x, y = (np.average((pieces[ours, n] + pieces[ours, n + 2]) / 2, weights=length) for n in (0, 1))
    rows = np.array([top, size[0]], np.float64)
    return np.stack([x + slope * (rows - y), rows], 1)
