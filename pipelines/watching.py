"""Watches the health of a pretraining's features: figures for the journal, a warning at collapse, a stop if asked."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from domains.errors import Collapsed
from domains.recipe import Pretrain
from pipelines.tracking import Tracker
from ssl_models import health
from ssl_models.protocols import Batch, pooled


class HealthWatch:
    """Figures of one fixed batch, compared with those of the encoder before its first step; changes nothing.

    Two looks in a row that say "collapsed" are believed: good trainings may pass through such a state.
    """

    def __init__(self, module: Any, batch: Batch, settings: Pretrain, label: str, tracker: Tracker) -> None:
        """A watch that takes the present weights of `module.encoder`, the random ones, for its start.

        Args:
            module: holds the encoder as `encoder`; before its training, also where that goes on from a checkpoint.
            batch: the same crops at every look; the first of each subject is taken.
            settings: whether to stop, and what the warning advises to change.
            label: of the training, in words.
            tracker: for the warning.
        """
        self._batch, self._settings, self._label, self._tracker = batch, settings, label, tracker
        self._suspected = self._warned = False
        self.start = self.figures(module)

    def figures(self, module: Any) -> dict[str, float]:
        """The encoder's feature_std and rankme."""
        return health.figures(pooled(frozen(module.encoder, self._batch.crops[:, 0])))

    def __call__(self, step: int, module: nn.Module) -> dict[str, float]:
        """The figures as health/*.

        Raises:
            Collapsed: they say so, and the settings ask to stop.
        """
        now = self.figures(module)
        named = {f"health/{name}": value for name, value in now.items()}
        before, self._suspected = self._suspected, health.collapsed(now, self.start)
        if before and self._suspected:
            text = self._advice(step, now)
            if not self._warned:
                print(text, file=sys.stderr, flush=True)
                self._tracker.note(text)
            self._warned = True
            if self._settings.stop_on_collapse:
                self._tracker.log(step, named)
                raise Collapsed(text)
        return named

    def _advice(self, step: int, now: dict[str, float]) -> str:
        settings = self._settings
        return (
            f"{self._label} has collapsed at step {step}: different crops get the same features (deviation "
            f"{now['feature_std']:.2g}, at random weights {self.start['feature_std']:.2g}; RankMe "
            f"{now['rankme']:.3f}). Such an encoder is worth less than a random one. Try a lower learning_rate (now "
            f"{settings.learning_rate:g}) or a longer warmup_steps (now {settings.warmup_steps}), stronger "
            f"augmentation, a larger batch_size (now {settings.batch_size}), a slower teacher (momentum nearer 1), an "
            "objective with a variance term, or another objective"
        )


def frozen(encoder: Any, crops: Tensor) -> list[Tensor]:
    """Feature maps of crops (B, C, *S) in evaluation mode, without a gradient, on the encoder's device."""
    learning = encoder.training
    encoder.eval()
    with torch.no_grad():
        features: list[Tensor] = encoder(crops.to(next(encoder.parameters()).device))
    encoder.train(learning)
    return features
