"""Boxes drawn into frames: a colour a class, its name and score on it, what is labelled beside what was found."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from domains.driving.classes import OBSTACLE_COLOURS, OBSTACLES
from domains.driving.coco import IGNORED_ALL

IGNORED_COLOUR = (150, 150, 150)
SMALLEST_TEXT = 10
"""Height of letters in pixels; grows with the frame."""
SIDE = 560
"""Width of a frame in a picture, in pixels, at least."""


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


def side_by_side(frames: Sequence[np.ndarray]) -> bytes:
    """PNG of frames of one size beside each other."""
    each = [Image.fromarray(frame) for frame in frames]
    image = Image.fromarray(np.concatenate([np.asarray(one) for one in each], axis=1))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def enlarged(frame: np.ndarray, boxes: np.ndarray, native_shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A stored frame scaled to at least `SIDE` pixels of width, and boxes in pixels of the source that fit it."""
    height, width = frame.shape[:2]
    factor = max(1.0, SIDE / width)
    shape = round(height * factor), round(width * factor)
    scaled = np.asarray(Image.fromarray(frame).resize(shape[::-1], Image.Resampling.BICUBIC))
    moved = boxes.copy()
    moved[:, -4:] *= np.array([shape[1] / native_shape[1], shape[0] / native_shape[0]] * 2)
    return scaled, moved
