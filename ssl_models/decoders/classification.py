"""Whole crops judged: the mean of an encoder's coarsest feature map, normalised, through one linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_models.protocols import pooled


class PooledClassifier(nn.Module):
    """Feature maps -> one row of logits a crop; what a crop shows counts, not where."""

    def __init__(self, *, width: int, classes: int) -> None:
        """A classifier on the coarsest map.

        Args:
            width: its channels.
            classes: of the logits.
        """
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, classes)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits (B, classes) of feature maps [(B, widths[i], *S / strides[i])], fine to coarse."""
        return self.logits(self.norm(pooled(features)))

    def grad_cam(self, features: list[Tensor]) -> Tensor:
        """Which places of the coarsest map speak for each class: (B, classes, *its S) float32, 0 where none does.

        A channel's weight is the mean over the map of the logit's gradient. After a mean that gradient is the same at
        every place, so it is written down and not run backwards: through the linear layer and the norm's Jacobian.
        The norm does not mind the length of the mean, so before what is negative is cut the map sums to zero, whatever
        the logit: it compares places of one crop, and its height says nothing about how sure the answer is.

        Source: Selvaraju et al. 2017, arXiv 1610.02391.
        """
        with torch.autocast(features[-1].device.type, enabled=False):
            last = features[-1].float()
            mean = pooled([last])
            centred = mean - mean.mean(1, keepdim=True)
            deviation = (centred.square().mean(1, keepdim=True) + self.norm.eps).sqrt()
            unit = (centred / deviation)[:, None]
            through = self.logits.weight.float() * self.norm.weight.float()  # (classes, E): gradient after the norm
            along = (through * unit).mean(-1, keepdim=True) * unit
            weights = (through - through.mean(-1, keepdim=True) - along) / deviation[:, None]
            places = last.flatten(2).shape[-1]
            return torch.einsum("bke,be...->bk...", weights / places, last).relu()
