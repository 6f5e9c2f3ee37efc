"""What convolutional encoders have in common: stages of growing stride, the first at full resolution, all kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

from torch import Tensor, nn

CHANNELS_IN_GROUP = 16


def group_norm(channels: int) -> tuple[str, dict[str, int]]:
    """MONAI's name and arguments of a GroupNorm with 16 channels in a group, or one group where 16 does not divide."""
    groups, rest = divmod(channels, CHANNELS_IN_GROUP)
    return "group", {"num_groups": 1 if rest else groups}


def steps_of(
    in_channels: int, widths: tuple[int, ...], pooling: tuple[tuple[int, ...], ...]
) -> list[tuple[int, int, tuple[int, ...]]]:
    """(input channels, width, stride) of each stage.

    Raises:
        ValueError: if the lengths differ or the first stage is not at full resolution.
    """
    if len(widths) != len(pooling):
        raise ValueError(f"{len(widths)} widths {widths} but {len(pooling)} poolings {pooling}: give one per stage")
    if set(pooling[0]) != {1}:
        raise ValueError(f"the first stage keeps the full resolution, but its pooling is {pooling[0]}")
    return list(zip((in_channels, *widths), widths, pooling, strict=False))


class StagedEncoder(nn.Module):
    """Stages one after the other, every stage's output kept.

    Attributes:
        in_channels: channels of the input.
        spatial_axes: 2 for images, 3 for volumes and clips.
        widths: channels of each feature map, fine to coarse.
        strides: stride of each feature map relative to the input, per axis; the first is all ones.
        stages: of the stride in `pooling` each.
    """

    def __init__(
        self, stages: Sequence[nn.Module], *, in_channels: int, widths: tuple[int, ...],
        pooling: tuple[tuple[int, ...], ...],
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels = in_channels
        self.spatial_axes = len(pooling[0])
        self.widths = tuple(widths)
        self.strides = tuple(accumulate(pooling, lambda fine, step: tuple(map(mul, fine, step))))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps [(B, widths[i], *S / strides[i])], fine to coarse, of crops (B, C, *S).

        Raises:
            ValueError: if a spatial size is not divisible by the coarsest stride.
        """
        size, coarsest = tuple(x.shape[2:]), self.strides[-1]
        if len(size) != len(coarsest) or any(length % stride for length, stride in zip(size, coarsest, strict=True)):
            raise ValueError(f"the spatial size {size} is not divisible by the encoder's coarsest stride {coarsest}")
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
