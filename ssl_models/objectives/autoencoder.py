"""Autoencoder: squeeze a crop through the coarsest feature map and reconstruct it; the baseline of the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_models.decoders.reconstruction import ReconstructionDecoder
from ssl_models.losses import channel_weight, weighted_squared_error
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled


class Autoencoder(nn.Module):
    """Mean squared error over the whole crop, averaged over a sample's pixels, then over samples.

    The decoder sees the coarsest feature map alone: through the skips of a U-Net it would copy.

    Source: Hinton and Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks" (Science 313).
    Differs: convolutions or a transformer, trained at once; a missing channel is no target.
    """

    needs = Needs()
    decoder = None

    def __init__(self, encoder: Encoder) -> None:
        """An autoencoder around `encoder`."""
        super().__init__()
        self.encoder = encoder
        self.paint = ReconstructionDecoder(
            widths=encoder.widths, strides=encoder.strides, out_channels=encoder.in_channels
        )

    def forward(self, batch: Batch) -> Losses:
        crops = batch.crops.flatten(0, 1)
        features = self.encoder(crops)
        loss = weighted_squared_error(self.paint(features), crops, channel_weight(batch))
        embedding = pooled(features).detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=loss, parts={"reconstruction": loss.detach()}, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S) of the middle channel of each first crop: original, reconstructed."""
        crops = batch.crops[:, 0]
        middle = slice(batch.shown_channel, batch.shown_channel + 1)
        return {"original": crops[:, middle], "reconstructed": self.paint(self.encoder(crops)).float()[:, middle]}


OBJECTIVE = Autoencoder
