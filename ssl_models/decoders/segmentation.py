"""The expanding half of a U-Net: any encoder's feature maps in, logits at full resolution out."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_models.encoders.staged import group_norm


class SegmentationDecoder(nn.Module):
    """From the coarsest map upwards: enlarge, join the skip of that resolution, two convolutions; then the logits."""

    def __init__(self, *, widths: tuple[int, ...], strides: tuple[tuple[int, ...], ...], out_channels: int) -> None:
        """A decoder for the encoder with these `widths` and `strides`.

        Args:
            widths: channels of each feature map, fine to coarse.
            strides: stride of each feature map relative to the input, per axis; the first is all ones.
            out_channels: channels of the logits.

        Raises:
            ValueError: if the lengths differ, the first map is not at full resolution or a stride does not divide the
                next one.
        """
        from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetUpBlock

        super().__init__()
        if len(widths) != len(strides):
            raise ValueError(f"{len(widths)} widths {widths} but {len(strides)} strides {strides}: give one per map")
        if set(strides[0]) != {1}:
            raise ValueError(f"the first feature map must have the full resolution, but its stride is {strides[0]}")
        axes = len(strides[0])
        self.ups = nn.ModuleList(
            UnetUpBlock(
                axes,
                widths[level + 1],
                widths[level],
                kernel_size=3,
                stride=1,
                upsample_kernel_size=ratio(strides[level], strides[level + 1]),
                norm_name=group_norm(widths[level]),
            )
            for level in reversed(range(len(widths) - 1))
        )
        self.logits = UnetOutBlock(axes, widths[0], out_channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (B, out_channels, *S) of feature maps [(B, widths[i], *S / strides[i])], fine to coarse.

        Raises:
            ValueError: if the number of feature maps is not the one the decoder was built for.
        """
        if len(features) != len(self.ups) + 1:
            raise ValueError(f"{len(features)} feature maps given, but the decoder takes {len(self.ups) + 1}")
        *skips, x = features
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        return self.logits(x)


def ratio(fine: tuple[int, ...], coarse: tuple[int, ...]) -> tuple[int, ...]:
    """How many times larger, per axis, the map of stride `fine` is than the map of stride `coarse`.

    Raises:
        ValueError: if `fine` does not divide `coarse`.
    """
    if any(c % f for f, c in zip(fine, coarse, strict=True)):
        raise ValueError(f"the stride {fine} of a feature map does not divide the next one's, {coarse}")
    return tuple(c // f for f, c in zip(fine, coarse, strict=True))
