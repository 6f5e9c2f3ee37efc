"""Temporal contrast: clips near in time attract, other drives and far clips of the same drive repel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.clips import change
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled


class TemporalContrast(nn.Module):
    """InfoNCE on projected pooled features; what attracts and what repels is told by `pairs`.

    In an hour of driving "the same video" says little: a clip's positives are those within `max_gap_seconds`, its
    negatives are other drives and clips of the same drive farther than `far_seconds`, and what lies between is
    neither. Nor are clips of a drive that are almost equal, as at a red light: as positives they teach nothing, as
    negatives they teach the noise.

    Each rank contrasts what it has: with a few dozen clips the negatives are other drives anyway, and no rank waits.

    Source: Qian et al. 2020 (arXiv 2008.03800); several clips as positives Feichtenhofer et al. 2021 (arXiv
        2104.14558).
    Differs: positives and negatives by seconds; pairs that are neither; no queue and no momentum encoder.
    """

    needs = Needs(crops=2, time=True, whole_batch=True)
    decoder = None

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_gap_seconds: float = 2.0,
        far_seconds: float = 10.0,
        still_below: float = 0.05,
        temperature: float = 0.1,
        projection_width: int = 128,
    ) -> None:
        """A contrast of clips around `encoder`.

        Args:
            encoder: is trained.
            max_gap_seconds: clips of a drive whose middles are at most so far apart attract.
            far_seconds: clips of a drive farther apart than this repel.
            still_below: clips of a drive that differ by less (`clips.change`) neither attract nor repel.
            temperature: of the cosine similarities.
            projection_width: E of the space in which clips are compared.

        Raises:
            ValueError: if far begins before near ends.
        """
        super().__init__()
        if far_seconds < max_gap_seconds:
            raise ValueError(f"far_seconds is {far_seconds}, less than max_gap_seconds, {max_gap_seconds}")
        self.encoder = encoder
        self.max_gap_seconds, self.far_seconds = max_gap_seconds, far_seconds
        self.still_below, self.temperature = still_below, temperature
        width = encoder.widths[-1]
        # Pooled features have a large part in common, and cosines near 1 teach nothing: standardised over the batch,
        # without running statistics, so that a call leaves nothing behind.
        self.projector = nn.Sequential(
            nn.BatchNorm1d(width, track_running_stats=False),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, projection_width),
        )

    def forward(self, batch: Batch) -> Losses:
        """The loss of one batch; 0, with a gradient of 0, where no clip has both a positive and a negative.

        Raises:
            ValueError: if the batch has no seconds.
        """
        positive, negative = self._pairs(batch)
        features = pooled(self.encoder(batch.crops.flatten(0, 1)))
        projected = F.normalize(self.projector(features).float(), dim=1)
        loss = info_nce(projected, positive, negative, self.temperature)
        used = positive.any(1) & negative.any(1)
        parts = {
            "info_nce": loss.detach(),
            "anchors": used.float().mean(),
            "positives": positive.sum(1).float().mean(),
            "negatives": negative.sum(1).float().mean(),
        }
        embedding = features.detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=loss, parts=parts, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, T, H, W) of the middle channel of each first clip, what attracts it and what repels it.

        The last two are the first such clip of the batch, or zeros where there is none.
        """
        positive, negative = self._pairs(batch)
        crops = batch.crops.flatten(0, 1)[:, batch.crops.shape[2] // 2].unsqueeze(1)
        first = slice(None, None, batch.crops.shape[1])

        def partner(mask: Tensor) -> Tensor:
            found = crops[mask[first].int().argmax(1)]
            return found * mask[first].any(1).view(-1, 1, 1, 1, 1)

        return {"clip": crops[first], "attracts": partner(positive), "repels": partner(negative)}

    def _pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch.seconds is None:
            raise ValueError("the objective temporal_contrast needs batches with seconds")
        clips = batch.crops.flatten(0, 1)
        drives = {name: number for number, name in enumerate(dict.fromkeys(batch.group_id))}
        group = torch.tensor([drives[name] for name in batch.group_id], device=clips.device)
        group = group.repeat_interleave(batch.crops.shape[1])
        first, second = (group.unsqueeze(1) == group).triu(1).nonzero().unbind(1)
        alike = torch.zeros(len(clips), len(clips), dtype=torch.bool, device=clips.device)
        # One pair after the other: all at once would hold as many copies of the clips as there are pairs.
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            alike[i, j] = alike[j, i] = change(clips[i : i + 1], clips[j : j + 1])[0] < self.still_below
        middle = batch.seconds.flatten(0, 1).mean(1)
        return pairs(group, middle, alike, self.max_gap_seconds, self.far_seconds)


def pairs(
    group: Tensor, seconds: Tensor, alike: Tensor, max_gap_seconds: float, far_seconds: float
) -> tuple[Tensor, Tensor]:
    """Which of N clips attract each other and which repel: two (N, N) bool, symmetric, False on the diagonal.

    Args:
        group: (N,) int64 number of each clip's drive.
        seconds: (N,) middle of each clip, on one clock within a drive.
        alike: (N, N) bool, clips so equal that they are neither.
        max_gap_seconds: attract up to here, within a drive.
        far_seconds: repel beyond, within a drive.
    """
    same = group.unsqueeze(1) == group
    gap = (seconds.unsqueeze(1) - seconds).abs()
    other = ~torch.eye(len(group), dtype=torch.bool, device=group.device) & ~alike
    return same & (gap <= max_gap_seconds) & other, (~same | (gap > far_seconds)) & other


def info_nce(projected: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """() mean over anchors of the mean over their positives of -log(p / (p + sum of negatives)), p = exp(cosine / t).

    Args:
        projected: (N, E) unit vectors, float32.
        positive: (N, N) bool.
        negative: (N, N) bool; an anchor without a positive or without a negative does not count.
        temperature: t.
    """
    used = positive.any(1) & negative.any(1)
    if not used.any():
        return projected.sum() * 0
    with torch.autocast(projected.device.type, enabled=False):
        similar = projected @ projected.T / temperature
    against = similar.masked_fill(~negative, -torch.inf)
    similar, positive = similar[used], positive[used]
    # log(exp(p) + sum of negatives) - p, which is softplus(log-sum of negatives - p).
    errors = F.softplus(against[used].logsumexp(1, keepdim=True) - similar)
    return ((errors * positive).sum(1) / positive.sum(1)).mean()


OBJECTIVE = TemporalContrast
