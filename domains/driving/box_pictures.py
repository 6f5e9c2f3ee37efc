"""Boxes drawn into frames: a colour a class, its name and score on it, labelled ones without a score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from domains.driving.classes import OBSTACLE_COLOURS, OBSTACLES
from domains.driving.coco import IGNORED_ALL

IGNORED_COLOUR = (150, 150, 150)
SMALLEST_TEXT = 10
"""Height of letters in pixels; grows with the frame."""


def boxes_drawn(frame: np.ndarray, boxes: np.ndarray, classes: Sequence[str] = OBSTACLES) -> np.ndarray:
    """(H, W, 3) uint8: the frame with its boxes.

    Args:
        frame: (H, W, 3) uint8.
        boxes: (N, 6) class, score, x1, y1, x2, y2 in pixels of the frame; no score is written where it is nan, and
            kinds below 0 are areas to be ignored.
        classes: names.
    """
    image = Image.fromarray(frame)
    pen = ImageDraw.Draw(image)
    size = max(SMALLEST_TEXT, frame.shape[0] // 36)
    font, line = ImageFont.load_default(size), max(1, size // 6)
    colours = list(OBSTACLE_COLOURS.values())
    for kind, score, *box in sorted(boxes.tolist(), key=lambda row: -row[5]):  # the nearest is drawn last
        name = classes[int(kind)] if kind >= 0 else "ignored" if kind == IGNORED_ALL else "crowd"
        colour = colours[int(kind) % len(colours)] if kind >= 0 else IGNORED_COLOUR
        pen.rectangle(box, outline=colour, width=line)
        if box[2] - box[0] < 2 * size and kind < 0:
            continue
        text = name if np.isnan(score) else f"{name[0] if box[2] - box[0] < 3 * size else name} {score:.2f}"
        left, top, right, bottom = pen.textbbox((box[0], max(0, box[1] - size - 2 * line)), text, font=font)
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), fill=colour)
        pen.text((box[0], max(0, box[1] - size - 2 * line)), text, fill=(0, 0, 0), font=font)
    return np.asarray(image)
