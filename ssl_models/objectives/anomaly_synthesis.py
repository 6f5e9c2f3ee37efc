"""Anomaly synthesis: paint anomalies into unlabelled crops and learn to segment them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_models.decoders.segmentation import SegmentationDecoder
from ssl_models.losses import channel_weight, dice_cross_entropy
from ssl_models.protocols import Batch, Encoder, Losses, Needs, Painter, pooled
from ssl_models.tokens import crop_seeds


class AnomalySynthesis(nn.Module):
    """Soft Dice and cross-entropy between the painted anomaly and what the decoder finds.

    How an anomaly looks, and its size in mm, is told by the domain's painter. The decoder (background, anomaly) is a
    model with zero labels.

    Source: Tan et al. 2020 (arXiv 2011.04197); with painted tumours Hu et al. 2023 (arXiv 2303.14869).
    Differs: the anomaly's look is an argument; every draw comes from sample seeds.
    """

    needs = Needs(painter=True, whole_batch=True)
    decoder_classes = 2

    def __init__(self, encoder: Encoder, *, painter: Painter | None) -> None:
        """A segmenter of painted anomalies around `encoder`.

        Raises:
            ValueError: if there is no painter.
        """
        super().__init__()
        if painter is None:
            raise ValueError("the objective anomaly_synthesis needs a painter, and this domain has none")
        self.encoder = encoder
        self.painter = painter
        self.decoder = SegmentationDecoder(widths=encoder.widths, strides=encoder.strides, out_channels=2)

    def forward(self, batch: Batch) -> Losses:
        painted, label = self._paint(batch)
        features = self.encoder(painted)
        loss = dice_cross_entropy(self.decoder(features), label)
        embedding = pooled(features).detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        parts = {"dice_cross_entropy": loss.detach(), "painted_fraction": label.float().mean()}
        return Losses(total=loss, parts=parts, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S) of each first crop: original, painted (middle channel), label, found (probability)."""
        painted, label = self._paint(batch)
        crops = batch.crops.shape[1]
        found = self.decoder(self.encoder(painted[::crops])).float().softmax(1)[:, 1:]
        middle = slice(batch.shown_channel, batch.shown_channel + 1)
        return {
            "original": batch.crops[:, 0, middle],
            "painted": painted[::crops, middle],
            "label": label[::crops].float(),
            "found": found,
        }

    @torch.no_grad()
    def _paint(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Painted crops (B * V, C, *S) and labels (B * V, 1, *S)."""
        crops = batch.crops.shape[1]
        spacing_mm = None if batch.spacing_mm is None else batch.spacing_mm.repeat_interleave(crops, 0)
        foreground = None if batch.foreground is None else batch.foreground.flatten(0, 1)
        seeds = crop_seeds(batch.sample_seed, crops)
        painted, label = self.painter(batch.crops.flatten(0, 1), spacing_mm, foreground, seeds)
        return painted * channel_weight(batch), label  # where a channel is missing there is nothing to see


OBJECTIVE = AnomalySynthesis
