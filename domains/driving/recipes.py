"""The recipes of the driving domain, and the settings its data needs."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from domains.driving.classes import CLASSES, OBSTACLES, ROAD_CLASSES
from domains.recipe import Finetune, Frozen, Pretrain, Recipe


class DrivingData(Frozen):
    """How frames and recordings are read and cut."""

    clip_frames: int = Field(default=0, ge=0, multiple_of=4)
    """Frames of a clip; then a subject is a recording. 0: a subject is a single frame."""
    frames_per_second: float = Field(default=10.0, gt=0)
    """Of a clip: the frame nearest to each of its times is taken, whatever the recording's own rate."""
    height: int = Field(default=240, ge=16)
    width: int = Field(default=320, ge=16)
    """Pixels that a stored frame covers: it is scaled until it just has both, its aspect kept."""
    crop_height: int = Field(default=96, ge=16, multiple_of=16)
    crop_width: int = Field(default=128, ge=16, multiple_of=16)
    """Of a training crop, in pixels."""
    max_gap_seconds: float = Field(default=1.0, ge=0)
    """Several crops of a recording start at most this far from each other."""
    label_classes: tuple[str, ...] = ROAD_CLASSES
    """Names of the label values 0, 1, ...; what is none of them is void."""

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop_height > self.height or self.crop_width > self.width:
            raise ValueError("a crop must not be larger than the stored frame")
        return self


class DrivingRecipe(Recipe):
    data: DrivingData = DrivingData()

    @model_validator(mode="after")
    def _classes_are_the_heads(self) -> Self:
        known = CLASSES.get(self.head)
        if known is not None and self.data.label_classes != known:
            raise ValueError(f"the head {self.head} learns the classes {', '.join(known)}")
        return self


def settings(recipe: Recipe) -> DrivingData:
    """The recipe's settings of this domain."""
    assert isinstance(recipe, DrivingRecipe)
    return recipe.data


RECIPES: dict[str, Recipe] = {
    "road_scene": DrivingRecipe(
        name="road_scene",
        domain="driving",
        head="road_scene",
        objective="mae",
        # A crop is nearly the whole frame, since where something lies in the picture says much about what it is.
        data=DrivingData(height=120, width=160),
        pretrain=Pretrain(steps=400, batch_size=16, learning_rate=1e-3, objectives={"mae": {"mask_ratio": 0.6}}),
        finetune=Finetune(steps=600, batch_size=16, learning_rate=2e-3, weight_decay=0.01, ema_decay=0.99),
    ),
    "dashcam_obstacles": DrivingRecipe(
        name="dashcam_obstacles",
        domain="driving",
        head="obstacles",
        objective="mae",
        data=DrivingData(crop_height=160, crop_width=224, label_classes=OBSTACLES),  # a car just ahead fits in
        pretrain=Pretrain(steps=400, batch_size=8, learning_rate=1e-3, objectives={"mae": {"mask_ratio": 0.6}}),
        finetune=Finetune(steps=1000, batch_size=8, learning_rate=1e-3, weight_decay=0.01, ema_decay=0.99),
    ),
    "dashcam_lanes": DrivingRecipe(
        name="dashcam_lanes",
        domain="driving",
        head="lanes",
        objective="mae",
        # A crop is nearly the whole frame, since where a lane lies in the picture says which one it is; for cameras
        # much wider than 16:9 (CULane) set data.width and data.crop_width to 448. With data.clip_frames on a CPU set
        # precision=32-true: torch 2.14's bfloat16 Conv3d corrupts memory for some sizes of clips (docs/log.md).
        data=DrivingData(height=160, width=288, crop_height=160, crop_width=288, label_classes=CLASSES["lanes"]),
        pretrain=Pretrain(steps=400, batch_size=8, learning_rate=1e-3, objectives={"mae": {"mask_ratio": 0.75}}),
        finetune=Finetune(steps=400, batch_size=8, learning_rate=2e-3, weight_decay=0.01, ema_decay=0.99),
    ),
}
"""By name: single frames with masks, and clips. Steps and rates are starting values, not tuned."""
