"""Pictures of single things with soft edges, and how they are put into a frame at any distance and angle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Tint = tuple[float, float, float]


@dataclass(frozen=True)
class Sprite:
    """A thing as seen from one side."""

    levels: tuple[np.ndarray, ...]
    """Each (H, W, 4) float32, half as large as the one before: colour times opacity in 0..255, opacity in 0..1."""

    @classmethod
    def of(cls, colour: np.ndarray, opacity: np.ndarray) -> Sprite:
        """(H, W, 3) and (H, W), both uint8 0..255; a transparent rim is put around, so that edges come out soft."""
        alpha = cv2.copyMakeBorder(opacity, 1, 1, 1, 1, cv2.BORDER_CONSTANT).astype(np.float32) / 255
        rgb = cv2.copyMakeBorder(colour, 1, 1, 1, 1, cv2.BORDER_REPLICATE).astype(np.float32)
        levels = [np.concatenate([rgb * alpha[..., None], alpha[..., None]], axis=2)]
        while min(levels[-1].shape[:2]) >= 8:
            height, width = levels[-1].shape[:2]
            levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
        return cls(tuple(levels))


class Sheet:
    """Colour and opacity of a sprite in the making; places are shares of its width and height, from the top left."""

    def __init__(self, aspect: float, width: int) -> None:
        self.size = (round(width * aspect), width)
        self.colour = np.zeros((*self.size, 3), np.uint8)
        self.opacity = np.zeros(self.size, np.uint8)

    def polygon(self, points: Any, colour: Any, shade: float = 0.0) -> None:
        """A filled shape; `shade` darkens it towards its lower end, as a share."""
        corners = (np.array(points, np.float32) * self.size[::-1]).round().astype(np.int32)
        mask = np.zeros(self.size, np.uint8)
        cv2.fillPoly(mask, [corners], 255)
        top, low = corners[:, 1].min(), corners[:, 1].max() + 1
        fall = 1 - shade * np.clip((np.arange(self.size[0]) - top) / max(1, low - top), 0, 1)
        filled = np.clip(np.asarray(colour, np.float32) * fall[:, None], 0, 255).astype(np.uint8)
        inside = mask > 0
        self.colour[inside] = np.broadcast_to(filled[:, None], self.colour.shape)[inside]
        self.opacity[inside] = 255

    def rectangle(self, x: float, y: float, wide: float, tall: float, colour: Any, shade: float = 0.0) -> None:
        self.polygon([(x, y), (x + wide, y), (x + wide, y + tall), (x, y + tall)], colour, shade)

    def disc(self, x: float, y: float, radius: float, colour: Any) -> None:
        """The radius is a share of the height."""
        at = (round(x * self.size[1]), round(y * self.size[0]))
        for target, value in ((self.colour, [float(c) for c in colour]), (self.opacity, 255)):
            cv2.circle(target, at, max(1, round(radius * self.size[0])), value, -1)

    def sprite(self, step: int = 1) -> Sprite:
        """As it is, or mirrored with a step of -1."""
        return Sprite.of(*(np.ascontiguousarray(sheet[:, ::step]) for sheet in (self.colour, self.opacity)))


@dataclass
class Canvas:
    """A frame in the making, with the class and the owner of each pixel."""

    image: np.ndarray
    """(H, W, 3) float32, 0..255."""
    classes: np.ndarray
    """(H, W) uint8."""
    owners: np.ndarray
    """(H, W) int32 number of the thing that is seen, -1 for none."""

    def paste(
        self, sprite: Sprite, corners: np.ndarray, tint: Tint, haze: Tint, owner: int = -1, label: int | None = None,
        strength: float = 1.0, part: tuple[float, float] = (0.0, 1.0),
    ) -> int:  # fmt: skip
        """Puts a sprite onto the quadrilateral of its corners.

        Args:
            sprite: what.
            corners: (4, 2) x, y in pixels of its upper left, upper right, lower right and lower left corner.
            tint: light, by which its colour is multiplied.
            haze: colour added where it is opaque.
            owner: number put into `owners`, with `label` put into `classes`, where it is more than half opaque.
            label: None leaves both as they are.
            strength: of its opacity.
            part: of the sprite's width that is shown, from left to right.

        Returns:
            how many pixels of the frame it covers.
        """
        left, top, right, low = _around(corners, *self.classes.shape)
        if right <= left or low <= top:
            return 0
        level = _level(sprite, corners, part)
        tall, wide = level.shape[:2]
        first, last = part[0] * wide - 0.5, part[1] * wide - 0.5
        source = np.array([(first, -0.5), (last, -0.5), (last, tall - 0.5), (first, tall - 0.5)], np.float32)
        target = (corners - (left + 0.5, top + 0.5)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(source, target)
        drawn = cv2.warpPerspective(level, matrix, (right - left, low - top), flags=cv2.INTER_LINEAR)
        if part != (0.0, 1.0):
            inside = np.zeros(drawn.shape[:2], np.uint8)
            cv2.fillConvexPoly(inside, np.round(target).astype(np.int32), 1)
            drawn *= inside[..., None]
        rows, columns = slice(top, low), slice(left, right)
        alpha, under = drawn[..., 3:] * np.float32(strength), self.image[rows, columns]
        light, fog = np.array(tint, np.float32) * np.float32(strength), np.array(haze, np.float32)
        under += drawn[..., :3] * light + alpha * (fog - under)
        if label is None:
            return 0
        solid = drawn[..., 3] > 0.5
        self.owners[rows, columns][solid] = owner
        self.classes[rows, columns][solid] = label
        return int(np.count_nonzero(solid))


def _around(corners: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and low end (not inside) of the pixels that the corners may touch."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners.tolist()
    left, right = max(0, int(min(x0, x3)) - 2), min(width, int(max(x1, x2)) + 3)
    return left, max(0, int(min(y0, y1)) - 2), right, min(height, int(max(y2, y3)) + 3)


def _level(sprite: Sprite, corners: np.ndarray, part: tuple[float, float]) -> np.ndarray:
    """The smallest level that is not smaller than the quadrilateral."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners.tolist()
    across, down = max(x1 - x0, x2 - x3, 1.0), max(y3 - y0, y2 - y1, 1.0)
    tall, wide = sprite.levels[0].shape[:2]
    ratio = max(1.0, min(wide * (part[1] - part[0]) / across, tall / down))
    return sprite.levels[min(int(math.log2(ratio) + 0.3), len(sprite.levels) - 1)]
