"""A linear probe for dense tasks: one linear layer on every feature map, nothing that could make up for the encoder."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

MODES = {2: "bilinear", 3: "trilinear"}


class LinearDecoder(nn.Module):
    """Logits at full resolution as a linear function of the feature maps, each enlarged linearly.

    A 1x1 convolution of all maps enlarged and joined is the sum of one for each map, enlarged after it: the same
    numbers for less memory.

    Source: Oquab et al. 2023, "DINOv2", arXiv 2304.07193 (a linear layer on patch features, enlarged).
    Differs: all maps of a hierarchical encoder, not the last alone; no batch normalisation before it, since the maps
        are normalised by the encoder's blocks.
    """

    def __init__(self, *, widths: tuple[int, ...], strides: tuple[tuple[int, ...], ...], out_channels: int) -> None:
        """A probe for the encoder with these `widths` and `strides`.

        Args:
            widths: channels of each feature map, fine to coarse.
            strides: stride of each feature map relative to the input, per axis; the first is all ones.
            out_channels: channels of the logits.

        Raises:
            ValueError: if the lengths differ or the first map is not at full resolution.
        """
        super().__init__()
        if len(widths) != len(strides) or set(strides[0]) != {1}:
            raise ValueError(f"widths {widths} and strides {strides}: one each per map, the first at full resolution")
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[len(strides[0])]
        self.logits = nn.ModuleList(
            convolution(width, out_channels, kernel_size=1, bias=level == 0) for level, width in enumerate(widths)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (B, out_channels, *S) of feature maps [(B, widths[i], *S / strides[i])], fine to coarse.

        Raises:
            ValueError: if the number of feature maps is not the one the probe was built for.
        """
        fine, *coarser = [layer(level) for layer, level in zip(self.logits, features, strict=True)]
        for level in coarser:
            fine = fine + F.interpolate(level, fine.shape[2:], mode=MODES[fine.ndim - 2])
        return fine
