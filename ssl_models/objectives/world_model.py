"""World model: the features of future frames from those of past frames and the ego-motion, rolled on in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.clips import Rollout, past_frames
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled
from ssl_models.tokens import draws

GREATEST_FREQUENCY, FREQUENCIES = 3.0, 17


class WorldModel(nn.Module):
    """Mean squared error between rolled-out and real future states, plus what keeps the states from collapsing.

    A state is a linear map of the encoder's coarsest features: one vector for each cell and slot of time. Past and
    future of a clip are encoded each by itself; from the last past state the others are rolled out one after the other,
    each from its predecessor and the ego-motion meanwhile. No teacher and no stopped gradient: over the clips of a
    batch, the states of a place are held to an isotropic Gaussian (`sigreg`), which a constant cannot be. (Over all
    places at once it could: a convolution knows the border of clip and frame, and states that only tell the place are
    predicted without an error.) `copy` is the error of the last past state as a prediction, the trivial competitor of
    `prediction`.

    Without ego-motion (no `actions`, or a batch that has none) the motion must be read from the past frames alone.

    Source: Maes et al. 2026 (arXiv 2603.19312); the regularisation Balestriero, LeCun 2025 (arXiv 2511.08544); rollout
        and action-conditioned features Assran et al. 2025 (arXiv 2506.09985).
    Differs: a map of states instead of one vector for a frame; a convolutional step without memory instead of a
        transformer; past and future slots are encoded as one clip each, since one frame shows no motion.
    """

    needs = Needs(time=True, whole_batch=True)
    decoder = None

    def __init__(
        self,
        encoder: Encoder,
        *,
        actions: int = 0,
        state_width: int = 64,
        gaussian_weight: float = 10.0,
        directions: int = 64,
        places: int = 16,
    ) -> None:
        """A world model around `encoder`.

        Args:
            encoder: is trained.
            actions: A of the batches' ego-motion, 0 for none.
            state_width: D of a state.
            gaussian_weight: of `sigreg` beside the error of prediction.
            directions: along which states are compared with a Gaussian, drawn anew for each batch.
            places: cells and slots whose states are compared, drawn anew for each batch.
        """
        super().__init__()
        self.encoder = encoder
        self.project = nn.Conv3d(encoder.widths[-1], state_width, 1)
        self.rollout = Rollout(state_width, actions=actions)
        self.gaussian_weight, self.directions, self.places = gaussian_weight, directions, places

    def forward(self, batch: Batch) -> Losses:
        """The loss of one batch.

        Raises:
            ValueError: if the clips cannot be cut into past and future (`clips.past_frames`).
        """
        features, before, predicted, after = self._imagine(batch)
        prediction = (predicted - after).square().mean()
        spread = sigreg(*self._sketch(torch.cat([before, after], 2), batch.sample_seed))
        parts = {
            "prediction": prediction.detach(),
            "copy": (before[:, :, -1:] - after).detach().square().mean(),
            "sigreg": spread.detach(),
        }
        embedding = pooled(features).detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=prediction + self.gaussian_weight * spread, parts=parts, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, T, H, W) of each first crop: original (middle channel), errors of rollout and of copying.

        An error is the mean square over a state, 0 in past frames.
        """
        crops, each = batch.crops[:, 0], batch.crops.shape[1]
        _, before, predicted, after = self._imagine(batch)

        def panel(states: Tensor) -> Tensor:
            error = F.pad((states - after).square().mean(1, keepdim=True)[::each], (0, 0, 0, 0, before.shape[2], 0))
            return F.interpolate(error, size=crops.shape[2:])

        middle = crops.shape[1] // 2
        return {
            "original": crops[:, middle : middle + 1],
            "rolled out": panel(predicted),
            "copied": panel(before[:, :, -1:].expand_as(after)),
        }

    def _imagine(self, batch: Batch) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Features of the past; past, predicted and future states (B * V, D, slots, h, w) float32."""
        clips, slot = batch.crops.flatten(0, 1), self.encoder.strides[-1][0]
        past = past_frames(clips.shape[2], slot)
        features = self.encoder(clips[:, :, :past])
        before = self.project(features[-1])
        after = self.project(self.encoder(clips[:, :, past:])[-1])
        actions = None
        if batch.actions is not None:
            actions = batch.actions.flatten(0, 1)[:, past:].unflatten(1, (-1, slot)).mean(2)
        predicted = self.rollout(before[:, :, -1], after.shape[2], actions)
        return features, before.float(), predicted.float(), after.float()

    def _sketch(self, states: Tensor, sample_seed: Tensor) -> tuple[Tensor, Tensor]:
        """States (P, B * V, D) of some places of (B * V, D, slots, h, w), directions (D, K), drawn from all seeds."""
        generator = torch.Generator().manual_seed(int(draws(sample_seed, 1).sum()) & (2**62 - 1))
        directions = torch.randn(states.shape[1], self.directions, generator=generator)
        places = torch.randperm(states[0, 0].numel(), generator=generator)[: self.places]
        chosen = states.flatten(2).permute(2, 0, 1)[places.to(states.device)]
        return chosen, F.normalize(directions, dim=0).to(states.device)


def sigreg(states: Tensor, directions: Tensor) -> Tensor:
    """() how far N vectors are from an isotropic Gaussian: 0 if they are one along every direction.

    The statistic of Epps and Pulley, averaged over directions and places: the squared distance between the empirical
    characteristic function of the projections and exp(-t^2 / 2), integrated over t under that same weight by the
    trapezoid rule, 17 points on [0, 3], twice for the other side.

    Args:
        states: (P, N, D), N vectors at each of P places.
        directions: (D, K) unit vectors.

    Source: Balestriero, LeCun 2025 (arXiv 2511.08544).
    Differs: not multiplied by N, so that its weight does not hang on the size of batch and crop.
    """
    with torch.autocast(states.device.type, enabled=False):
        t = torch.linspace(0, GREATEST_FREQUENCY, FREQUENCIES, device=states.device)
        gaussian = (-t.square() / 2).exp()
        angle = (states.float() @ directions).unsqueeze(3) * t
        distance = (angle.cos().mean(1) - gaussian).square() + angle.sin().mean(1).square()
        return 2 * torch.trapezoid(distance * gaussian, t, dim=2).mean()


OBJECTIVE = WorldModel
