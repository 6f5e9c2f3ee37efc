"""MoCo: a crop finds the other crop of its subject among a queue of crops that a slow teacher has seen before."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.optim import frozen_copy, move_teacher
from ssl_models.pairs import Projector, embedded, found_panels, gathered, group_numbers, unit
from ssl_models.protocols import Batch, Encoder, Losses, Needs

EMPTY = -1
"""Group of a place in the queue that no key has taken yet."""


class MoCo(nn.Module):
    """InfoNCE of a first crop's query: its second crop's key against the batch's other keys and those of the queue.

    Keys come from a teacher, the moving average of encoder and projector. The queue begins empty; the batch's keys,
    those of all ranks, enter it in `after_step()`. Keys of the query's own group (patient or drive) do not count: a
    small archive comes round many times in the life of a queue.

    Source: He et al. 2019 (arXiv 1911.05722); projector and temperature Chen et al. 2020 (arXiv 2003.04297).
    Differs: the batch's other keys repel too: those of the queue alone can be told from the right one by their age (the
        teacher has moved) or their batch (its statistics), which batches shuffled over ranks are to prevent there;
        keys of the same group do not repel; 1,024 keys and momentum 0.99, for short trainings (there 65,536 and
        0.999); BatchNorm in the projector.
    """

    needs = Needs(crops=2)
    decoder = None
    queue: Tensor
    queue_groups: Tensor
    pointer: Tensor

    def __init__(
        self, encoder: Encoder, *, temperature: float = 0.2, momentum: float = 0.99, queue: int = 1024, width: int = 128
    ) -> None:
        """A contrast around `encoder`; the teacher starts at its present weights.

        Args:
            encoder: is trained; its pooled coarsest features are projected.
            temperature: of the softmax, above 0.
            momentum: share of its weights that the teacher keeps in a step, in [0, 1); constant.
            queue: number of keys.
            width: E of the projection in which crops are compared.
        """
        super().__init__()
        self.encoder = encoder
        self.projector = Projector(encoder.widths[-1], width)
        self.teacher, self.teacher_projector = frozen_copy(encoder), frozen_copy(self.projector)
        self.temperature, self.momentum = temperature, momentum
        self.register_buffer("queue", torch.zeros(queue, width))
        self.register_buffer("queue_groups", torch.full((queue,), EMPTY))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self._arrived: tuple[Tensor, Tensor] | None = None

    def forward(self, batch: Batch) -> Losses:
        features, queries, keys = self._project(batch)
        groups = group_numbers(batch.group_id, keys.device)
        self._arrived = gathered(keys), gathered(groups)
        others, their_groups = (torch.cat(x) for x in zip(self._arrived, (self.queue, self.queue_groups), strict=True))
        skipped = (groups.unsqueeze(1) == their_groups) | (their_groups == EMPTY)
        loss, accuracy = info_nce(queries, keys, others, skipped, self.temperature)
        parts = {
            "accuracy": accuracy,
            "alignment": (queries.detach() - keys).square().sum(1).mean(),
            "negatives": (~skipped).sum(1).float().mean(),
        }
        return Losses(total=loss, parts=parts, embedding=features.detach().float())

    @torch.no_grad()
    def after_step(self) -> None:
        """The last batch's keys take the oldest ones' places, then the teacher moves."""
        if self._arrived is not None:
            keys, groups = (x[-len(self.queue) :] for x in self._arrived)
            places = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
            self.queue[places], self.queue_groups[places] = keys, groups
            self.pointer.copy_((self.pointer + len(keys)) % len(self.queue))
            self._arrived = None
        move_teacher(self.teacher, self.encoder, self.momentum)
        move_teacher(self.teacher_projector, self.projector, self.momentum)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S): crop, other crop, and the crop taken for it (the nearest among the second ones)."""
        return found_panels(batch, *self._project(batch)[1:])

    def _project(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, E) and queries (B, width) of the first crops; keys (B, width) of the second, no gradient."""
        features = embedded(self.encoder, batch.crops[:, :1])
        with torch.no_grad():
            keys = self.teacher_projector(embedded(self.teacher, batch.crops[:, 1:2]))
        return features[:, 0], unit(self.projector(features))[:, 0], unit(keys)[:, 0]


def info_nce(
    queries: Tensor, keys: Tensor, others: Tensor, skipped: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """-log(exp(q.k / t) / (exp(q.k / t) + sum over others n of exp(q.n / t))), averaged; and the share with k nearest.

    In float32 also under autocast.

    Args:
        queries: (B, E) of length 1.
        keys: (B, E) of length 1, one for each query.
        others: (K, E) of length 1.
        skipped: (B, K) bool, which of the others do not count for a query.
        temperature: t, above 0.
    """
    with torch.autocast(queries.device.type, enabled=False):
        positive = (queries * keys).sum(1, keepdim=True)
        negative = (queries @ others.T).masked_fill(skipped, -torch.inf)
        logits = torch.cat([positive, negative], dim=1) / temperature
        asked = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return F.cross_entropy(logits, asked), (logits.argmax(1) == 0).float().mean()


OBJECTIVE = MoCo
