"""Losses shared by objectives and heads: soft Dice with cross-entropy for labels, squared error for pictures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_models.protocols import Batch

SMOOTH = 1e-5


def dice_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss of the foreground classes plus cross-entropy of all classes, in float32 also under autocast.

    The Dice of a class is taken over the whole batch at once, so that a crop without that class does not count as a
    failure of its own.

    Args:
        logits: (B, K, *S), background first.
        target: (B, 1, *S) int64 in [0, K).

    Returns:
        () float32 in [0, inf): mean over classes of 1 - Dice, plus mean over pixels of the cross-entropy.

    Source: Milletari et al. 2016 (arXiv 1606.04797); the sum as in Isensee et al. 2018 (arXiv 1809.10486).
    Differs: the denominator has plain sums, not squares, and 1e-5 on both sides of the fraction.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_probability = logits.float().log_softmax(1)
        cross_entropy = F.nll_loss(log_probability, target[:, 0])
        classes = range(1, logits.shape[1])
        dice = [_dice(log_probability[:, k].exp(), (target[:, 0] == k).float()) for k in classes]
        return 1 - torch.stack(dice).mean() + cross_entropy


def weighted_squared_error(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the squared error of each sample, then the mean over samples, in float32 also under autocast.

    Args:
        predicted: (B, C, *S).
        target: (B, C, *S).
        weight: (B, C or 1, *S or ones) in [0, inf), spread over C and S; a sample without weight counts as zero.

    Returns:
        () float32 in [0, inf).
    """
    error = (predicted.float() - target.float()).square()
    weight = weight.float().expand_as(error)
    return ((error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-6)).mean()


def channel_weight(batch: Batch) -> Tensor:
    """(B * V, C, 1, ...) float32 of a batch's crops: 0 for a channel that is missing, which is no target, else 1."""
    crops = batch.crops.flatten(0, 1)
    weight = crops.new_ones(crops.shape[:2])
    if batch.channels_present is not None:
        weight = batch.channels_present.repeat_interleave(batch.crops.shape[1], 0).to(crops)
    return weight.view(*weight.shape, *[1] * (crops.ndim - 2))


def _dice(probability: Tensor, truth: Tensor) -> Tensor:
    overlap = (probability * truth).sum()
    return (2 * overlap + SMOOTH) / (probability.sum() + truth.sum() + SMOOTH)
