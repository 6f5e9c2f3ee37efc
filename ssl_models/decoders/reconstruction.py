"""From the coarsest feature map alone back to the full resolution: no skips, so nothing passes by the encoder."""

from __future__ import annotations

from torch import Tensor, nn

from ssl_models.decoders.segmentation import ratio
from ssl_models.encoders.resunet import group_norm


class ReconstructionDecoder(nn.Module):
    """Upwards from the coarsest map: enlarge and two convolutions at each of the encoder's resolutions."""

    def __init__(self, *, widths: tuple[int, ...], strides: tuple[tuple[int, ...], ...], out_channels: int) -> None:
        """A decoder for the encoder with these `widths` and `strides`, fine to coarse."""
        from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetOutBlock
        from monai.networks.layers.factories import Conv

        super().__init__()
        axes = len(strides[0])
        enlarge = Conv[Conv.CONVTRANS, axes]
        self.ups = nn.Sequential()
        for level in reversed(range(len(widths) - 1)):
            width, step = widths[level], ratio(strides[level], strides[level + 1])
            self.ups.append(enlarge(widths[level + 1], width, step, step))
            self.ups.append(UnetBasicBlock(axes, width, width, 3, 1, group_norm(width)))
        self.out = UnetOutBlock(axes, widths[0], out_channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        """(B, out_channels, *S) from the last of the feature maps [(B, widths[i], *S / strides[i])]."""
        return self.out(self.ups(features[-1]))
