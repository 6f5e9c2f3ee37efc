"""What is kept of a recording of any length, as thumbnails: frames evenly spread over it, and its worst moments."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

THUMBNAIL = (320, 180)
"""Most width and height in pixels."""
COLUMNS = 4
CAPTION = 14
"""Height in pixels."""


@dataclass(frozen=True)
class Moment:
    """A frame with what was drawn on it, small."""

    frame: int
    seconds: float
    confidence: float
    thumbnail: Image.Image


class Spread:
    """At least `count` and at most twice as many frames, evenly spread over however many there will be."""

    def __init__(self, count: int) -> None:
        self._most, self._every, self._kept = 2 * count, 1, list[Moment]()

    def see(self, frame: int, seconds: float, confidence: float, drawn: np.ndarray) -> None:
        """Every frame (H, W, 3) uint8, in order; of most only the number is looked at."""
        if frame % self._every:
            return
        self._kept.append(_moment(frame, seconds, confidence, drawn))
        if len(self._kept) > self._most:
            self._kept, self._every = self._kept[::2], 2 * self._every

    def moments(self) -> list[Moment]:
        """Early to late."""
        return self._kept


class Worst:
    """The `count` moments at which a model was least sure, any two at least so many seconds apart."""

    def __init__(self, count: int, apart_seconds: float) -> None:
        self._count, self._apart, self._kept = count, apart_seconds, list[Moment]()

    def see(self, frame: int, seconds: float, confidence: float, drawn: np.ndarray) -> None:
        """Every frame, in order. A worse one takes the place of those that are too near to it."""
        near = [one for one in self._kept if seconds - one.seconds < self._apart]
        others = [one for one in self._kept if seconds - one.seconds >= self._apart]
        full = len(others) >= self._count and confidence >= max(one.confidence for one in others)
        if full or any(one.confidence <= confidence for one in near):
            return
        others.append(_moment(frame, seconds, confidence, drawn))
        self._kept = sorted(others, key=lambda one: one.confidence)[: self._count]

    def moments(self) -> list[Moment]:
        """The least sure first."""
        return self._kept

    def listed(self) -> list[dict[str, Any]]:
        """The same as JSON."""
        return [{"frame": m.frame, "pts_seconds": round(m.seconds, 3), "confidence": round(m.confidence, 4)}
                for m in self._kept]  # fmt: skip


def contact_sheet(spread: Sequence[Moment], worst: Sequence[Moment]) -> bytes:
    """PNG: frames over the whole recording, and below them its worst moments, each with its time."""
    width, height = (max(m.thumbnail.size[axis] for m in spread) for axis in (0, 1))
    parts = [("over the whole recording", spread), ("least sure", worst)]
    rows = sum(1 + -(-len(moments) // COLUMNS) for _, moments in parts)
    sheet = Image.new("RGB", (COLUMNS * width, rows * (height + CAPTION)), "black")
    pen, top = ImageDraw.Draw(sheet), 0
    for title, moments in parts:
        pen.text((4, top + 1), title, fill="white")
        top += CAPTION
        for at, moment in enumerate(moments):
            left, below = at % COLUMNS * width, top + at // COLUMNS * (height + CAPTION)
            pen.text((left + 4, below + 1), f"{moment.seconds:.2f} s   sure {moment.confidence:.2f}", fill="white")
            sheet.paste(moment.thumbnail, (left, below + CAPTION))
        top += -(-len(moments) // COLUMNS) * (height + CAPTION)
    file = io.BytesIO()
    sheet.crop((0, 0, sheet.width, top)).save(file, "PNG")
    return file.getvalue()


def _moment(frame: int, seconds: float, confidence: float, drawn: np.ndarray) -> Moment:
    thumbnail = Image.fromarray(drawn)
    thumbnail.thumbnail(THUMBNAIL)
    return Moment(frame, seconds, confidence, thumbnail)
