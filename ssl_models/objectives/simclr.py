"""SimCLR: two crops of a subject attract each other, crops of other subjects repel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.pairs import Projector, embedded, found_panels, gathered, group_numbers, rank, unit
from ssl_models.protocols import Batch, Encoder, Losses, Needs


class SimCLR(nn.Module):
    """NT-Xent over the two crops of all subjects of the batch, on every rank.

    Another crop of the same group (patient or drive) is neither: it is not asked for, and not repelled.

    Source: Chen et al. 2020 (arXiv 2002.05709).
    Differs: crops of the same group are left out of the denominator.
    """

    needs = Needs(crops=2)
    decoder = None

    def __init__(self, encoder: Encoder, *, temperature: float = 0.2, width: int = 128) -> None:
        """A contrast around `encoder`.

        Args:
            encoder: is trained; its pooled coarsest features are projected.
            temperature: of the softmax, above 0: the lower, the more the nearest others count.
            width: E of the projection in which crops are compared.
        """
        super().__init__()
        self.encoder = encoder
        self.projector = Projector(encoder.widths[-1], width)
        self.temperature = temperature

    def forward(self, batch: Batch) -> Losses:
        features, projected = self._project(batch)
        contrast = nt_xent(projected, group_numbers(batch.group_id, projected.device), self.temperature)
        first, second = projected.detach().unbind(1)
        parts = {
            "accuracy": contrast.accuracy,
            "alignment": (unit(first) - unit(second)).square().sum(1).mean(),
            "negatives": contrast.negatives,
        }
        return Losses(total=contrast.loss, parts=parts, embedding=features[:, 0].detach().float())

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S): crop, other crop, and the crop taken for it (the nearest among the second ones)."""
        return found_panels(batch, *self._project(batch)[1].unbind(1))

    def _project(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features and projections, (B, 2, E) each, of the first two crops."""
        features = embedded(self.encoder, batch.crops[:, :2])
        return features, self.projector(features)


class Contrast(NamedTuple):
    """A contrastive loss and what it was made of, () each; all but the loss detached."""

    loss: Tensor
    accuracy: Tensor
    """Share of crops to which their own second crop is the nearest."""
    negatives: Tensor
    """Crops that each was compared with besides its own, averaged; 0 means that nothing can be learned."""


def nt_xent(projected: Tensor, groups: Tensor, temperature: float) -> Contrast:
    """-log(exp(s_ij / t) / sum over k of exp(s_ik / t)), averaged over the crops i of this rank; j is i's partner.

    s is the cosine; k runs over j and the crops of all ranks whose group is not i's. In float32 also under autocast.

    Args:
        projected: (B, 2, E), the two crops of a subject side by side.
        groups: (B,) int64.
        temperature: t, above 0.
    """
    with torch.autocast(projected.device.type, enabled=False):
        mine, groups = unit(projected.flatten(0, 1)), groups.repeat_interleave(2)
        others, their_groups = gathered(mine), gathered(groups)
        index = torch.arange(len(mine), device=mine.device)
        partner = rank() * len(mine) + (index ^ 1)
        left_out = groups.unsqueeze(1) == their_groups
        left_out[index, partner] = False
        logits = (mine @ others.T / temperature).masked_fill(left_out, -torch.inf)
        loss = F.cross_entropy(logits, partner)
    accuracy = (logits.argmax(1) == partner).float().mean()
    return Contrast(loss, accuracy, (~left_out).sum(1).float().mean() - 1)


OBJECTIVE = SimCLR
