"""Encoders by name: each takes crops and gives feature maps, fine to coarse."""

from __future__ import annotations

from typing import Any

from ssl_models.protocols import Geometry
from ssl_models.sizes import SIZES, conv_widths

OF_CLIPS = ("slow", "x3d")
"""Made for (T, H, W), where the first axis is time."""
NAMES = ("resunet", "vit", *OF_CLIPS)


def takes(name: str, geometry: Geometry) -> bool:
    """Whether an encoder of that name is made for crops of `geometry`."""
    return name in fitting(time=geometry.time_axis and geometry.spatial_axes == 3)


def fitting(*, time: bool) -> tuple[str, ...]:
    """Names of the encoders that are made for crops with, or without, an axis of time."""
    return NAMES if time else tuple(name for name in NAMES if name not in OF_CLIPS)


def refuse_unfit(name: str, *, time: bool) -> None:
    """Checks that an encoder is made for the data: `time` says whether its crops are clips (T, H, W).

    Raises:
        ValueError: it is unknown, or it is not; the text names those that are.
    """
    if name not in NAMES:
        raise ValueError(f"unknown encoder {name!r}; encoders are {', '.join(NAMES)}")
    if name not in fitting(time=time):
        raise ValueError(
            f"the encoder {name} needs clips (T, H, W), and this data has no axis of time; encoders that fit: "
            + ", ".join(fitting(time=time))
        )


def build(name: str, *, size: str, in_channels: int, geometry: Geometry) -> Any:
    """An encoder of the given size for crops of `geometry`, weights drawn from the global generator.

    Returns:
        An `Encoder` that is an nn.Module; Python has no type for both at once.

    Raises:
        ValueError: the name or the size is unknown, or the encoder is not made for such crops.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; sizes are {', '.join(SIZES)}")
    refuse_unfit(name, time=geometry.time_axis and geometry.spatial_axes == 3)
    dial = SIZES[size]
    if name == "vit":
        from ssl_models.encoders.vit import ViTEncoder

        return ViTEncoder(
            in_channels=in_channels,
            crop_shape=geometry.crop_shape,
            patch_shape=geometry.patch_shape,
            width=dial.vit_width,
            depth=dial.vit_depth,
            heads=dial.vit_heads,
        )
    widths = conv_widths(size, len(geometry.pooling))
    if name == "resunet":
        from ssl_models.encoders.resunet import ResUNetEncoder

        return ResUNetEncoder(in_channels=in_channels, widths=widths, pooling=geometry.pooling)
    from ssl_models.encoders import video_cnn

    kind = {"slow": video_cnn.SlowEncoder, "x3d": video_cnn.X3DEncoder}[name]
    return kind(in_channels=in_channels, widths=widths, pooling=geometry.pooling, blocks=dial.video_blocks)
