"""Proposals: learn to segment what the domain's rule of thumb proposes, where it seems to be right."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.decoders.segmentation import SegmentationDecoder
from ssl_models.losses import dice_cross_entropy
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled


class Proposals(nn.Module):
    """Soft Dice and cross-entropy between the decoder and the proposals, without the crops that fit worst.

    A rule is wrong in its own way for each subject, while a network learns first what the subjects have in common:
    crops with a high loss are where the rule most likely failed. They are left out, separately among the crops with
    and without a proposal, so that the easy empty ones do not crowd out the others. A rule tells where something is and
    not which of several classes, so the decoder (background, something) is a model with zero labels of one class.

    Source: small-loss selection as in Han et al. 2018 (arXiv 1804.06872).
    Differs: one network selects for itself; the share left out is constant.
    """

    needs = Needs(proposals=True, whole_batch=True)
    decoder_classes = 2

    def __init__(self, encoder: Encoder, *, left_out: float = 0.3) -> None:
        """A segmenter of proposals around `encoder`.

        Args:
            encoder: is trained.
            left_out: share of the crops of a batch without a say, in [0, 1).
        """
        super().__init__()
        self.encoder = encoder
        self.decoder = SegmentationDecoder(widths=encoder.widths, strides=encoder.strides, out_channels=2)
        self.left_out = left_out

    def forward(self, batch: Batch) -> Losses:
        """Loss of a batch.

        Raises:
            ValueError: the batch carries no proposals.
        """
        target = _proposed(batch)
        features = self.encoder(batch.crops.flatten(0, 1))
        logits = self.decoder(features)
        kept = small_loss(crop_losses(logits.detach(), target), target.flatten(1).any(1), self.left_out)
        loss = dice_cross_entropy(logits[kept], target[kept])
        embedding = pooled(features).detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        parts = {"kept": kept.float().mean(), "proposed_fraction": (target > 0).float().mean()}
        return Losses(total=loss, parts=parts, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S) of each first crop: original (middle channel), proposed, found (probability)."""
        crops, middle = batch.crops.shape[1], batch.shown_channel
        found = self.decoder(self.encoder(batch.crops[:, 0])).float().softmax(1)
        return {
            "original": batch.crops[:, 0, middle : middle + 1],
            "proposed": _proposed(batch)[::crops].float(),
            "found": 1 - found[:, :1],
        }


def crop_losses(logits: Tensor, target: Tensor) -> Tensor:
    """(B,) Dice plus cross-entropy of each crop by itself: logits (B, K, *S), target (B, 1, *S)."""
    cross_entropy = F.cross_entropy(logits.float(), target[:, 0], reduction="none").flatten(1).mean(1)
    found, truth = 1 - logits.float().softmax(1)[:, 0].flatten(1), (target[:, 0] > 0).float().flatten(1)
    dice = (2 * (found * truth).sum(1) + 1) / (found.sum(1) + truth.sum(1) + 1)
    return 1 - dice + cross_entropy


def small_loss(losses: Tensor, kind: Tensor, left_out: float) -> Tensor:
    """(B,) bool: of each `kind` (B,) bool, all but the `left_out` share (rounded down) with the highest losses (B,)."""
    kept = torch.ones_like(kind)
    for members in (kind, ~kind):
        index = members.nonzero()[:, 0]
        worst = losses[index].argsort(descending=True)[: int(left_out * len(index))]
        kept[index[worst]] = False
    return kept


def _proposed(batch: Batch) -> Tensor:
    """(B * V, 1, *S) int64, 1 where anything is proposed."""
    if batch.proposals is None:
        raise ValueError("the objective proposals needs batches with proposals")
    return batch.proposals.flatten(0, 1).clamp(max=1)


OBJECTIVE = Proposals
