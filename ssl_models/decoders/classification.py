"""Whole crops judged: the mean of an encoder's coarsest feature map, normalised, through one linear layer."""

from __future__ import annotations

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
