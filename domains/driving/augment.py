"""Augmentation of a clip: one draw for all its frames and their labels; what turns left turns right in a mirror.

The picture is changed by albumentations, whose pipelines are told their seed for each clip, so that a crop depends on
its own seed alone. Whether it is mirrored is drawn here, because actions have to know.
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
) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """A window scaled to a crop, perhaps mirrored, turned a little, with changed colours and sharpness.

    Args:
        frames: (T, h, w, 3) uint8.
        label: (T, h, w) uint8, or None; moves along, to the nearest pixel.
        shape: (H, W) of the crop.
        draw: gives every random number.

    Returns:
        (T, H, W, 3) uint8, (T, H, W) uint8 or None, whether it was mirrored.
    """
    mirrored = bool(draw.random() < FLIP_CHANCE)
    pipeline = _pipeline(shape)
    pipeline.set_random_seed(int(draw.integers(2**32)))
    given = {"images": _contiguous(frames, mirrored)}
    if label is not None:
        given["masks"] = _contiguous(label, mirrored)
    changed = pipeline(**given)
    return changed["images"], changed.get("masks"), mirrored


def mirrored_actions(actions: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(..., A) ego-motion as it is in a mirror: yaw and steering change sign."""
    signs = [-1.0 if name.split("_")[0] in MIRRORED_ACTIONS else 1.0 for name in names]
    return actions * np.array(signs, actions.dtype)


def _contiguous(array: np.ndarray, mirrored: bool) -> np.ndarray:
    return np.ascontiguousarray(array[:, :, ::-1] if mirrored else array)


def _pipeline(shape: tuple[int, int]) -> Any:
    """This thread's pipeline for crops of a shape."""
    made = vars(_own).setdefault("pipelines", {})
    if shape not in made:
        made[shape] = _build(shape)
    return made[shape]


def _build(shape: tuple[int, int]) -> Any:
    a, cv2 = _libraries()
    return a.Compose(
        [
            a.Resize(*shape, interpolation=cv2.INTER_AREA, mask_interpolation=cv2.INTER_NEAREST),
            a.Affine(rotate=(-ROTATION_DEGREES, ROTATION_DEGREES), border_mode=cv2.BORDER_REFLECT_101, p=1),
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
