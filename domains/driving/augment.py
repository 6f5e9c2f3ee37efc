"""Augmentation of a clip: one draw for all its frames and their labels; what turns left turns right in a mirror.

Where a pixel goes is one affine matrix, drawn here: frames and masks are warped by it, points and actions are told.
Colours and sharpness are albumentations', whose pipeline is told its seed for each clip, so that a crop depends on its
own seed alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

FLIP_CHANCE = 0.5
ROTATION_DEGREES = 4.0
COLOUR_CHANCE, BLUR_CHANCE = 0.8, 0.2
MIRRORED_ACTIONS = ("yaw", "steering")
"""First word of the actions that change sign in a mirror; speed does not."""

_own = threading.local()
"""A pipeline holds its random state, so that each thread has its own."""


def augment(
    frames: np.ndarray, label: np.ndarray | None, shape: tuple[int, int], draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """A window scaled to a crop, perhaps mirrored, turned a little, with changed colours and sharpness.

    Args:
        frames: (T, h, w, 3) uint8.
        label: (T, h, w) uint8, or None; moves along, to the nearest pixel.
        shape: (H, W) of the crop.
        draw: gives every random number.

    Returns:
        (T, H, W, 3) uint8, (T, H, W) uint8 or None, and the (2, 3) float64 matrix by which everything moved: x, y in
        pixels from the window's left and top edge -> those of the crop (see `shapes.moved`, `is_mirrored`).
    """
    _, cv2 = _libraries()
    angle = np.radians(draw.uniform(-ROTATION_DEGREES, ROTATION_DEGREES))
    matrix = placed(frames.shape[1:3], shape, bool(draw.random() < FLIP_CHANCE), float(angle))
    pipeline = _pipeline()
    pipeline.set_random_seed(int(draw.integers(2**32)))
    moved = _warped(frames, matrix, shape, cv2.INTER_LINEAR)
    mask = None if label is None else _warped(label, matrix, shape, cv2.INTER_NEAREST)
    return pipeline(images=moved)["images"], mask, matrix


def placed(window: Sequence[int], shape: tuple[int, int], mirrored: bool, angle: float) -> np.ndarray:
    """(2, 3) matrix that scales a window of (h, w) pixels to (H, W), mirrors it and turns it about its middle.

    Args:
        window: (h, w).
        shape: (H, W).
        mirrored: left becomes right.
        angle: in radians; from x towards y.
    """
    scale = np.array([shape[1] / window[1], shape[0] / window[0]])
    around = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = around @ np.diag(scale * [-1 if mirrored else 1, 1])
    middle, goal = np.array(window[::-1]) / 2, np.array(shape[::-1]) / 2
    return np.concatenate([linear, (goal - linear @ middle)[:, None]], axis=1)


def is_mirrored(matrix: np.ndarray) -> bool:
    """Whether a matrix of `augment` makes left right."""
    return bool(np.linalg.det(matrix[:, :2]) < 0)


def mirrored_actions(actions: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(..., A) ego-motion as it is in a mirror: yaw and steering change sign."""
    signs = [-1.0 if name.split("_")[0] in MIRRORED_ACTIONS else 1.0 for name in names]
    return actions * np.array(signs, actions.dtype)


def _warped(frames: np.ndarray, matrix: np.ndarray, shape: tuple[int, int], how: int) -> np.ndarray:
    """(T, *shape, ...) of (T, h, w, ...); beyond the window's edge it is reflected."""
    _, cv2 = _libraries()
    half = np.full(2, 0.5)  # OpenCV counts from the middle of the first pixel, not from its edge
    centred = np.concatenate([matrix[:, :2], (matrix[:, :2] @ half + matrix[:, 2] - half)[:, None]], axis=1)
    warped = [cv2.warpAffine(np.ascontiguousarray(frame), centred, shape[::-1], flags=how,
                             borderMode=cv2.BORDER_REFLECT_101) for frame in frames]  # fmt: skip
    return np.stack(warped)


def _pipeline() -> Any:
    """This thread's pipeline."""
    made = vars(_own)
    if "pipeline" not in made:
        made["pipeline"] = _build()
    return made["pipeline"]


def _build() -> Any:
    a, _ = _libraries()
    return a.Compose(
        [
            a.ColorJitter(brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.6, 1.4), hue=(-0.04, 0.04),
                          p=COLOUR_CHANCE),
            a.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.2), p=BLUR_CHANCE),
        ]
    )  # fmt: skip


@cache
def _libraries() -> tuple[Any, Any]:
    """albumentations and OpenCV, imported when first needed: seconds that reading a recipe should not cost."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the network for a newer version
    import albumentations
    import cv2

    return albumentations, cv2
