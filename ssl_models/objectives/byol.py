"""BYOL: from one crop of a subject, predict what a slow teacher makes of the other; nothing repels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.health import feature_std
from ssl_models.optim import frozen_copy, move_teacher
from ssl_models.pairs import Projector, embedded, found_panels
from ssl_models.protocols import Batch, Encoder, Losses, Needs


class BYOL(nn.Module):
    """2 - 2 cos between the prediction from a crop and the teacher's projection of the other crop, both ways.

    The teacher is the moving average of encoder and projector, and moves in `after_step()`.

    Source: Grill et al. 2020 (arXiv 2006.07733).
    Differs: the two directions are averaged, not summed, so that the loss lies in [0, 4]; the teacher's momentum is
        constant and lower, for short trainings (there it rises from 0.996 to 1). With a LayerNorm in place of the
        projector's BatchNorm it collapses within a few dozen steps (see its test; Richemond et al. 2020, arXiv
        2010.10241, need standardised weights to do without).
    """

    needs = Needs(crops=2)
    decoder = None

    def __init__(self, encoder: Encoder, *, momentum: float = 0.99, width: int = 128) -> None:
        """A prediction around `encoder`; the teacher starts at its present weights.

        Args:
            encoder: is trained; its pooled coarsest features are projected.
            momentum: share of its weights that the teacher keeps in a step, in [0, 1); constant.
            width: E of the projection that is predicted.
        """
        super().__init__()
        self.encoder = encoder
        self.projector = Projector(encoder.widths[-1], width)
        self.predictor = Projector(width, width)
        self.teacher, self.teacher_projector = frozen_copy(encoder), frozen_copy(self.projector)
        self.momentum = momentum

    def forward(self, batch: Batch) -> Losses:
        features, predicted, targets = self._project(batch)
        loss = (2 - 2 * F.cosine_similarity(predicted, targets.flip(1), dim=2)).mean()
        parts = {"target_std": torch.tensor(feature_std(targets.flatten(0, 1)))}
        return Losses(total=loss, parts=parts, embedding=features[:, 0].detach().float())

    def after_step(self) -> None:
        """Moves the teacher."""
        move_teacher(self.teacher, self.encoder, self.momentum)
        move_teacher(self.teacher_projector, self.projector, self.momentum)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S): crop, other crop, and the crop taken for it (the nearest among the second ones)."""
        _, predicted, targets = self._project(batch)
        return found_panels(batch, predicted[:, 0], targets[:, 1])

    def _project(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, 2, E), predictions and, without gradient, targets (B, 2, width) of the first two crops."""
        crops = batch.crops[:, :2]
        features = embedded(self.encoder, crops)
        predicted = self.predictor(self.projector(features)).float()
        with torch.no_grad():
            targets = self.teacher_projector(embedded(self.teacher, crops)).float()
        return features, predicted, targets


OBJECTIVE = BYOL
