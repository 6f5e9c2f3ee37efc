"""From the recipe to the preprocessing contract: sizes, colours, strides and patches of frames and clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domains.domain import Candidate
from domains.driving.readers import image_size
from domains.driving.recipes import settings
from domains.driving.telemetry import ACTIONS
from domains.driving.video import video_header
from domains.manifest import Contract
from domains.recipe import Recipe

VERSION = 2
"""Of what `preprocess.py` writes; bumped by hand when it changes."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in 0..1 over everyday photographs: what given weights usually expect."""
FRAME_POOLING = ((1, 1), (2, 2), (2, 2), (2, 2), (2, 2))
CLIP_POOLING = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
FRAME_PATCH, CLIP_PATCH = (8, 8), (2, 8, 8)


def inspect(candidate: Candidate) -> dict[str, Any]:
    """Shape (H, W) of a candidate's first frame, from its header, and whether there is telemetry beside it.

    Raises:
        Refused: the header cannot be read.
    """
    kind, path = next(iter(candidate.images.items()))
    shape = video_header(path).shape if kind == "video" else image_size(path)
    return {"shape": list(shape), "telemetry": "telemetry" in candidate.images}


def plan(inspections: Sequence[dict[str, Any]], recipe: Recipe) -> Contract:
    """The contract for an archive; the recipe decides, since cameras differ and frames are scaled to one size."""
    data = settings(recipe)
    clips = data.clip_frames > 0
    crop = (data.crop_height, data.crop_width)
    rules = {
        "channels": ["red", "green", "blue"],
        "size": [data.height, data.width],
        "resize": "covers the size, aspect kept",
        "colour_range": "0..255, as shown",
        "colour_mean": list(MEAN),
        "colour_deviation": list(DEVIATION),
        "frames_per_second": data.frames_per_second if clips else None,
    }
    return Contract(
        domain="driving",
        version=VERSION,
        in_channels=3,
        num_classes=len(data.label_classes),
        crop_shape=(data.clip_frames, *crop) if clips else crop,
        pooling=CLIP_POOLING if clips else FRAME_POOLING,
        patch_shape=CLIP_PATCH if clips else FRAME_PATCH,
        time_axis=clips,
        actions=ACTIONS if clips and any(one.get("telemetry") for one in inspections) else (),
        rules=rules,
    )


def has_time(recipe: Recipe) -> bool:
    """Whether crops are clips."""
    return settings(recipe).clip_frames > 0
