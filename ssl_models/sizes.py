"""The one dial: tiny / small / base -> width, depth, heads, learning rate.

tiny trains in minutes on two CPU cores, small on one GPU in hours, base is the size of the published encoders
(ViT-B; ResEnc-L of nnssl has 32..320 channels).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Widths and depths of every network at one size."""

    conv_width: int
    """Channels of the convolutional encoder's first stage; doubled at each stage."""
    conv_width_max: int
    """Channels at which the doubling stops."""
    vit_width: int
    vit_depth: int
    vit_heads: int
    video_blocks: int
    """Residual blocks in each stage of a convolutional encoder of clips, behind the stem."""
    decoder_width: int
    decoder_depth: int


SIZES = {
    "tiny": Size(16, 128, 192, 6, 6, 1, 96, 2),
    "small": Size(32, 320, 384, 12, 6, 2, 192, 4),
    "base": Size(48, 512, 768, 12, 12, 4, 384, 8),
}


def conv_widths(size: str, stages: int) -> tuple[int, ...]:
    """Channels of each of `stages` stages: doubled, up to the size's maximum."""
    dial = SIZES[size]
    return tuple(min(dial.conv_width * 2**stage, dial.conv_width_max) for stage in range(stages))
