"""Encoders by name: each takes crops and gives feature maps, fine to coarse."""

from __future__ import annotations

from typing import Any

from ssl_models.protocols import Geometry
from ssl_models.sizes import SIZES, conv_widths

NAMES = ("resunet", "vit")


def takes(name: str, geometry: Geometry) -> bool:
    """Whether an encoder of that name is made for crops of `geometry`."""
    return name in NAMES


def build(name: str, *, size: str, in_channels: int, geometry: Geometry) -> Any:
    """An encoder of the given size for crops of `geometry`, weights drawn from the global generator.

    Returns:
        An `Encoder` that is an nn.Module; Python has no type for both at once.

    Raises:
        ValueError: the name or the size is unknown.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; sizes are {', '.join(SIZES)}")
    if name == "resunet":
        from ssl_models.encoders.resunet import ResUNetEncoder

        widths = conv_widths(size, len(geometry.pooling))
        return ResUNetEncoder(in_channels=in_channels, widths=widths, pooling=geometry.pooling)
    if name == "vit":
        from ssl_models.encoders.vit import ViTEncoder

        dial = SIZES[size]
        return ViTEncoder(
            in_channels=in_channels,
            crop_shape=geometry.crop_shape,
            patch_shape=geometry.patch_shape,
            width=dial.vit_width,
            depth=dial.vit_depth,
            heads=dial.vit_heads,
        )
    raise ValueError(f"unknown encoder {name!r}; encoders are {', '.join(NAMES)}")
