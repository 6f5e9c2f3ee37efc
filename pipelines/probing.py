"""Probes while an encoder is pretrained: what its frozen features tell about labels that it never learns from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from domains.domain import CropSource
from pipelines.tracking import Tracker
from pipelines.watching import frozen
from ssl_models import probes
from ssl_models.tokens import patchify

MOST_SUBJECTS, CROPS_EACH, AT_ONCE = 32, 2, 8
MOST_ROWS = 256
"""Places of feature maps (or subjects) that a probe is fitted to, and as many that it is asked about."""
SEED = 20_000


@dataclass(frozen=True)
class Probing:
    """Balanced accuracies of kNN, a linear and an attentive probe on fixed crops; looking changes no weight.

    Every second group is fitted to, the others are asked about. Where labels are masks, kNN and the line are asked for
    the class of single places of the coarsest feature map, attention over all places for that of whole crops; the
    class of either is its most frequent one but the background, which it has only where there is nothing else. Where
    labels are classes of subjects, all three are asked for these, and each of several findings is a question of its
    own. A figure is left out where one half of the groups does not show two classes.
    """

    source: CropSource
    """Labelled crops, not augmented, of `group_ids`."""
    group_ids: tuple[str, ...]
    """Of each subject of the source."""
    classes: int
    """Of the labels, background included."""
    every: int
    tracker: Tracker
    """For the remark that labels were looked at."""

    def __call__(self, step: int, module: nn.Module) -> dict[str, float]:
        """probe/knn, probe/linear, probe/attentive in [0, 1]; 1 / classes is chance."""
        found = self.figures(module) if len(set(self.group_ids)) > 1 else {}
        if step == 0:
            groups = len(set(self.group_ids))
            self.tracker.note(
                f"labels were looked at: every {self.every} steps probes on frozen features are judged on {groups} "
                "development groups; the weights do not depend on it, a choice made by these figures does"
                if found
                else f"no probe: the labels of {groups} development groups do not show two classes on either side, or "
                "are neither masks of the crops nor classes"
            )
        return {f"probe/{name}": value for name, value in found.items()}

    def figures(self, module: Any) -> dict[str, float]:
        """Name of the probe -> balanced accuracy."""
        tokens, targets, judged = self._read(module.encoder)
        size, stride = tuple(targets.shape[2:]), module.encoder.strides[-1]
        if targets.ndim == 2:
            whole = places = subject_classes(targets)
            features, of_places = tokens.mean(1), judged
        elif len(size) == len(stride) and math.prod(size) == math.prod(stride) * tokens.shape[1]:
            whole, places = mask_classes(targets, size, self.classes), mask_classes(targets, stride, self.classes)
            places, features = places.flatten().unsqueeze(1), tokens.flatten(0, 1)
            of_places = judged.repeat_interleave(tokens.shape[1])
        else:
            return {}
        scores = {
            "knn": _score(probes.knn, features, places, of_places),
            "linear": _score(probes.linear, features, places, of_places),
            "attentive": _score(probes.attentive, tokens, whole, judged),
        }
        return {name: score for name, score in scores.items() if score is not None}

    def _read(self, encoder: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Places of the coarsest map (N, T, E), labels as batches have them, whether a crop is asked about (N,)."""
        order = list(dict.fromkeys(self.group_ids))
        rows = [(i, SEED + i + len(self.source) * crop) for crop in range(CROPS_EACH) for i in range(len(self.source))]
        tokens, targets = [], []
        for at in range(0, len(rows), AT_ONCE):
            subjects, seeds = zip(*rows[at : at + AT_ONCE], strict=True)
            batch = self.source.batch(subjects, seeds)
            assert batch.targets is not None
            tokens.append(frozen(encoder, batch.crops[:, 0])[-1].flatten(2).transpose(1, 2).float().cpu())
            targets.append(batch.targets)
        judged = torch.tensor([order.index(self.group_ids[i]) % 2 == 1 for i, _ in rows])
        return torch.cat(tokens), torch.cat(targets), judged


def spread(group_ids: Sequence[str], most: int = MOST_SUBJECTS) -> list[int]:
    """At most `most` indices: one subject of every group in their order, then a second one, ..."""
    seen: Counter[str] = Counter()
    turn = []
    for group in group_ids:
        turn.append(seen[group])
        seen[group] += 1
    return sorted(range(len(group_ids)), key=lambda i: (turn[i], i))[:most]


def mask_classes(targets: Tensor, cell: tuple[int, ...], classes: int) -> Tensor:
    """(N, 1, *S) -> (N, cells) int64: a cell's most frequent class but the background, 0 if it has only that.

    Labels outside [0, classes) are unknown; a cell of nothing else is -1.
    """
    inside = patchify(targets.long(), cell)
    counts = torch.stack([(inside == c).sum(2) for c in range(classes)], dim=2)
    most, winner = counts[..., 1:].max(2)
    return torch.where(most > 0, winner + 1, torch.where(counts[..., 0] > 0, 0, -1))


def subject_classes(targets: Tensor) -> Tensor:
    """(N, K) -> (N, K) int64: an integer column alone is a class, others are findings; -1 where nothing is known."""
    if targets.shape[1] == 1 and not targets.is_floating_point():
        return targets.long()
    known = targets.isfinite() & (targets >= 0)
    return torch.where(known, (targets > 0.5).long(), -1)


def balanced_accuracy(found: Tensor, true: Tensor) -> float:
    """Recall in [0, 1] of each class of (M,) that is there, averaged."""
    return torch.stack([(found[true == c] == c).double().mean() for c in true.unique()]).mean().item()


def _score(
    probe: Callable[[Tensor, Tensor, Tensor], Tensor], features: Tensor, labels: Tensor, judged: Tensor
) -> float | None:
    """Mean over the columns of labels (M, Q) that both halves show two classes of; None if there is no such column."""
    scores = []
    for column in labels.T:
        known, asked = _evenly(column, ~judged), _evenly(column, judged)
        asked = asked[torch.isin(column[asked], column[known])]
        if len(column[known].unique()) > 1 and len(column[asked].unique()) > 1:
            found = probe(features[known], column[known], features[asked]).argmax(1)
            scores.append(balanced_accuracy(found, column[asked]))
    return sum(scores) / len(scores) if scores else None


def _evenly(labels: Tensor, chosen: Tensor) -> Tensor:
    """Indices of at most `MOST_ROWS` of the chosen rows with a known label, as many of each class as there may be."""
    classes = labels[chosen & (labels >= 0)].unique()
    generator = torch.Generator().manual_seed(SEED)
    rows = []
    for c in classes:
        of_class = torch.nonzero(chosen & (labels == c)).flatten()
        order = torch.randperm(len(of_class), generator=generator)
        rows.append(of_class[order[: MOST_ROWS // len(classes)]])
    return torch.cat(rows) if rows else torch.empty(0, dtype=torch.int64)
