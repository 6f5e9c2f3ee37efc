"""Heads of the driving domain by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from domains.driving.heads import lanes, obstacles, road_scene
from domains.driving.recipes import settings
from domains.driving.shapes import Targets
from domains.manifest import Contract
from domains.recipe import Recipe

HEADS = {head.name: head for head in (road_scene.HEAD, lanes.HEAD, obstacles.HEAD)}

TARGETS: dict[str, Targets] = {"lanes": lanes.targets, "obstacles": obstacles.targets}
"""Head whose labels are shapes -> what its loss takes for a crop of a frame; the other heads learn from masks."""


class PerFrame(NamedTuple):
    """What becomes of a frame's prediction, as the head's `of_frames` gives it, in a stream."""

    drawn: Callable[[np.ndarray, Any, Contract], np.ndarray]
    """Native frame (H, W, 3) uint8, prediction, contract -> the frame with the prediction drawn on it."""
    as_json: Callable[[Any], dict[str, Any]]
    """Prediction -> findings in pixels of the source."""
    confidence: Callable[[Any], float]
    """Prediction -> 0..1, how sure the model is of this frame, to be compared between frames alone."""


def per_frame(recipe: Recipe) -> PerFrame:
    """That of a recipe's head, with the names that the recipe gives its classes."""
    if recipe.head == "obstacles":
        classes = settings(recipe).label_classes
        drawn, as_json = partial(obstacles.drawn, classes=classes), partial(obstacles.as_json, classes=classes)
        return PerFrame(drawn, as_json, obstacles.confidence)
    module = {"lanes": lanes, "road_scene": road_scene}[recipe.head]
    return PerFrame(module.drawn, module.as_json, module.confidence)
