"""Frame order: cut a clip into segments, shuffle them, and tell in which order they are."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.clips import frame_change
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled
from ssl_models.tokens import crop_seeds, draws

MOST_SEGMENTS = 4


class FrameOrder(nn.Module):
    """Cross-entropy over the n! orders of a clip's n segments, told from the pooled features of the shuffled clip.

    An order of single frames cannot be told from its reverse, since most motions may run either way: the papers count
    the two as one class. A segment here has at least two frames and shows its direction itself, so that each order is
    a class of its own. A clip without motion has no order and no weight.

    Source: Misra et al. 2016 (arXiv 1603.08561); Lee et al. 2017 (arXiv 1708.01246).
    Differs: segments instead of single frames; the encoder sees the shuffled clip at once, where the jumps between
        segments are, instead of each frame by itself.
    """

    needs = Needs(time=True, whole_batch=True)
    decoder = None

    def __init__(self, encoder: Encoder, *, still_below: float = 0.05) -> None:
        """A teller of orders around `encoder`.

        Args:
            encoder: is trained.
            still_below: clips whose frames differ by less (`clips.change`) have no say.
        """
        super().__init__()
        self.encoder, self.still_below = encoder, still_below
        width = encoder.widths[-1]
        # Pooled features have a large part in common, which is taken off over the batch; without running statistics, so
        # that a call leaves nothing behind.
        self.head = nn.Sequential(
            nn.BatchNorm1d(width, track_running_stats=False),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, factorial(MOST_SEGMENTS)),
        )

    def forward(self, batch: Batch) -> Losses:
        """The loss of one batch.

        Raises:
            ValueError: if the clips cannot be cut into segments.
        """
        clips = batch.crops.flatten(0, 1)
        shuffled, order = shuffle(clips, crop_seeds(batch.sample_seed, batch.crops.shape[1]))
        features = pooled(self.encoder(shuffled))
        moves = frame_change(clips) >= self.still_below
        logits = self._logits(features, clips.shape[2])
        errors = F.cross_entropy(logits, order, reduction="none")
        right = (logits.argmax(1) == order).float()
        share = moves / moves.sum().clamp_min(1)
        parts = {"accuracy": (right * share).sum(), "moving": moves.float().mean()}
        embedding = features.detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=(errors * share).sum(), parts=parts, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, T, H, W) of the middle channel of each first crop: original, shuffled, put back as told."""
        crops, middle = batch.crops[:, 0], batch.crops.shape[2] // 2
        shuffled, _ = shuffle(crops, crop_seeds(batch.sample_seed, batch.crops.shape[1])[:: batch.crops.shape[1]])
        told = self._logits(pooled(self.encoder(shuffled)), crops.shape[2]).argmax(1)
        table = orders(segments_of(crops.shape[2]), crops.device)
        panels = {"original": crops, "shuffled": shuffled, "put back": rearranged(shuffled, table[told].argsort(1))}
        return {name: panel[:, middle : middle + 1] for name, panel in panels.items()}

    def _logits(self, features: Tensor, frames: int) -> Tensor:
        """(B, E) -> (B, n!) float32."""
        return self.head(features).float()[:, : factorial(segments_of(frames))]


def segments_of(frames: int) -> int:
    """Into how many segments a clip is cut: 4, 3 or 2, the most that are equal and have two frames or more.

    Raises:
        ValueError: if there is no such cut.
    """
    for count in range(MOST_SEGMENTS, 1, -1):
        if frames % count == 0 and frames >= 2 * count:
            return count
    raise ValueError(
        f"frame_order: {frames} frames cannot be cut into 2 to {MOST_SEGMENTS} equal segments of 2 or more"
    )


def orders(segments: int, device: torch.device) -> Tensor:
    """(n!, n) int64: all orders of n segments, in lexicographic order."""
    return torch.tensor(list(permutations(range(segments))), device=device)


def rearranged(clips: Tensor, order: Tensor) -> Tensor:
    """(B, C, T, H, W), (B, n) -> the same clips with segment `order[b, i]` at place i."""
    cut = clips.unflatten(2, (order.shape[1], -1)).transpose(1, 2)
    return cut[torch.arange(len(cut), device=cut.device).unsqueeze(1), order].transpose(1, 2).flatten(2, 3)


def shuffle(clips: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, T, H, W), (B,) -> shuffled clips of that shape, which of the n! orders each is in (B,) int64."""
    table = orders(segments_of(clips.shape[2]), clips.device)
    drawn = draws(seeds, 1)[:, 0] % len(table)
    return rearranged(clips, table[drawn]), drawn


OBJECTIVE = FrameOrder
