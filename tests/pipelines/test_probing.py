"""Probes in a pretraining: right where features show the class, chance where they do not, and nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.probing import Probing, balanced_accuracy, mask_classes, spread, subject_classes
from ssl_models.protocols import Batch
from tests.pipelines.tiny_training import Silent

GROUPS = tuple(f"g{i // 2}" for i in range(16))


@dataclass(frozen=True)
class Squares:
    """Noise (1, 16, 16), brighter where the mask is: in half of the crops, one cell of 4 x 4. Two subjects a group."""

    kind: str = "mask"
    shuffled: bool = False

    def __len__(self) -> int:
        return len(GROUPS)

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        images, masks = [], []
        for seed in seeds:
            g = torch.Generator().manual_seed(seed)
            mask = torch.zeros(1, 16, 16, dtype=torch.int64)
            y, x, there = torch.randint(4, (3,), generator=g).tolist()
            mask[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = there % 2
            images.append(torch.randn(1, 16, 16, generator=g) * 0.3 + 2 * mask)
            other = torch.Generator().manual_seed(seed + 999)
            masks.append(torch.randint(2, (1, 4, 4), generator=other).repeat_interleave(4, 1).repeat_interleave(4, 2)
                         if self.shuffled else mask)  # fmt: skip
        targets = torch.stack(masks)
        if self.kind == "boxes":
            targets = torch.zeros(len(seeds), 3, 5)
        elif self.kind != "mask":
            found = targets.flatten(1).amax(1, keepdim=True)
            unknown = torch.full_like(found, -1)
            targets = found if self.kind == "class" else torch.cat([found, 1 - found, unknown], 1).float()
        return Batch(
            crops=torch.stack(images).unsqueeze(1), sample_seed=torch.tensor(seeds), targets=targets,
            group_id=tuple(GROUPS[i] for i in subjects),
        )  # fmt: skip


class Means(nn.Module):
    """Mean and greatest value of each 4 x 4 cell, and a norm that would remember what it saw while it learns."""

    strides = ((1, 1), (4, 4))

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.norm(x)
        return [x, torch.cat([F.avg_pool2d(x, 4), F.max_pool2d(x, 4)], 1)]


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Means()


def probing(source: Squares, groups: tuple[str, ...] = GROUPS) -> tuple[Probing, Silent]:
    tracker = Silent()
    made: Any = Probing(source=source, group_ids=groups, classes=2, every=10, tracker=tracker)  # type: ignore[arg-type]
    return made, tracker


@pytest.mark.parametrize("kind", ["mask", "class", "findings"])
def test_probing__features_that_show_the_class__all_three_find_it(kind: str) -> None:
    looking, tracker = probing(Squares(kind))
    figures = looking(0, Holder())
    assert figures.keys() == {"probe/knn", "probe/linear", "probe/attentive"}
    assert figures["probe/attentive"] > 0.9 and figures["probe/knn"] > 0.7 and figures["probe/linear"] > 0.8, figures
    assert "labels were looked at: every 10 steps" in tracker.notes[0] and "8 development groups" in tracker.notes[0]


def test_probing__shuffled_labels__chance() -> None:
    figures = probing(Squares(shuffled=True))[0](10, Holder())
    assert abs(figures["probe/knn"] - 0.5) < 0.1 and abs(figures["probe/linear"] - 0.5) < 0.1, figures


def test_probing__changes_nothing_and_says_the_same_twice() -> None:
    looking, tracker = probing(Squares())
    holder = Holder().train()
    before = {name: tensor.clone() for name, tensor in holder.state_dict().items()}
    state = torch.get_rng_state()
    assert looking(10, holder) == looking(20, holder)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in holder.state_dict().items())
    assert holder.training and holder.encoder.norm.training
    assert all(p.grad is None for p in holder.parameters()) and not tracker.notes


def test_probing__no_group_is_on_both_sides() -> None:
    looking, _ = probing(Squares())
    _, _, judged = looking._read(Means())
    sides = {group: {bool(judged[i + 16 * crop]) for i, g in enumerate(GROUPS) if g == group for crop in (0, 1)}
             for group in GROUPS}  # fmt: skip
    assert all(len(side) == 1 for side in sides.values())
    assert sorted(next(iter(side)) for side in sides.values()) == [False] * 4 + [True] * 4


def test_probing__one_group_or_no_class__said_and_left_out() -> None:
    for looking, tracker in (probing(Squares(), ("g",) * 16), probing(Squares(), ())):
        assert looking(0, Holder()) == {}
        assert "no probe" in tracker.notes[0] and "labels were looked at" not in tracker.notes[0]


def test_probing__labels_that_are_neither_masks_nor_classes__left_out() -> None:
    looking, tracker = probing(Squares("boxes"))
    assert looking(0, Holder()) == {} and "neither masks of the crops nor classes" in tracker.notes[0]


def test_mask_classes__slow_reference() -> None:
    targets = torch.randint(-1, 4, (3, 1, 4, 6, 6), generator=torch.Generator().manual_seed(0))
    targets[0, :, :2, :3, :3], targets[1, :, :2, :3, :3], targets[2, 0, :2, :3, :3] = 0, -1, 255
    targets[2, 0, 0, 0, 0] = 0
    found = mask_classes(targets, (2, 3, 3), 3).reshape(3, 2, 2, 2)
    for n, d, h, w in np.ndindex(3, 2, 2, 2):
        cell = targets[n, 0, 2 * d : 2 * d + 2, 3 * h : 3 * h + 3, 3 * w : 3 * w + 3].flatten().tolist()
        ones, twos = cell.count(1), cell.count(2)
        wanted = (1 if ones >= twos else 2) if ones + twos else (0 if 0 in cell else -1)
        assert found[n, d, h, w] == wanted
    assert found[0, 0, 0, 0] == 0 and found[1, 0, 0, 0] == -1 and found[2, 0, 0, 0] == 0


def test_subject_classes__classes_findings_and_unknown() -> None:
    assert subject_classes(torch.tensor([[3], [0]])).tolist() == [[3], [0]]
    findings = torch.tensor([[1.0, float("nan"), 0.0], [0.0, 1.0, -1.0]])
    assert subject_classes(findings).tolist() == [[1, -1, 0], [0, 1, -1]]


def test_balanced_accuracy__mean_recall() -> None:
    true = torch.tensor([0] * 8 + [1] * 2)
    assert balanced_accuracy(torch.zeros(10, dtype=torch.int64), true) == 0.5
    assert balanced_accuracy(torch.tensor([0] * 6 + [1] * 4), true) == pytest.approx((6 / 8 + 1) / 2)


def test_spread__groups_in_turn() -> None:
    assert spread(["a", "a", "a", "b", "c", "b"], 4) == [0, 3, 4, 1]
    assert spread(["a", "b"], 9) == [0, 1]
