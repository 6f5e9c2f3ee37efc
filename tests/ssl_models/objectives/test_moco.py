"""MoCo: its loss against a slow NumPy version and against lightly's; queue and teacher; that it learns."""

from dataclasses import replace

import learning
import numpy as np
import pytest
import torch
from lightly.loss import NTXentLoss
from lightly.models.utils import update_momentum

from ssl_models import encoders, pairs
from ssl_models.objectives.moco import EMPTY, MoCo, info_nce
from ssl_models.protocols import Batch


def moco_of(**settings: float) -> MoCo:
    torch.manual_seed(0)
    return MoCo(encoders.build("resunet", size="tiny", in_channels=1, geometry=learning.GRATING), **settings)


def batch_of(seed: int = 0, count: int = 4) -> Batch:
    return learning.gratings(count, seed, crops=2)[0]


def units(count: int, seed: int) -> torch.Tensor:
    return pairs.unit(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)))


def test_info_nce__equals_the_published_formula() -> None:
    queries, keys, others = units(4, 0), units(4, 1), units(9, 2)
    skipped = torch.rand(4, 9, generator=torch.Generator().manual_seed(3)) < 0.4
    loss, accuracy = info_nce(queries, keys, others, skipped, 0.2)
    q, k, n = (x.double().numpy() for x in (queries, keys, others))
    losses, right = [], []
    for b in range(4):
        positive, negative = q[b] @ k[b], [q[b] @ n[i] for i in range(9) if not skipped[b, i]]
        total = np.exp(positive / 0.2) + sum(np.exp(s / 0.2) for s in negative)
        losses.append(-np.log(np.exp(positive / 0.2) / total))
        right.append(positive > max(negative))
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert accuracy.item() == np.mean(right)


def test_info_nce__equals_lightly_with_a_memory_bank() -> None:
    theirs = NTXentLoss(temperature=0.2, memory_bank_size=(8, 5))
    bank = theirs.memory_bank.bank.clone()
    queries, keys = units(4, 0).requires_grad_(), units(4, 1)
    loss, _ = info_nce(queries, keys, bank, torch.zeros(4, 8, dtype=torch.bool), 0.2)
    loss.backward()
    copied = units(4, 0).requires_grad_()
    expected = theirs(copied, keys)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    # Theirs normalises the queries again, which takes the gradient's part along them.
    gradient = queries.grad - (queries.grad * units(4, 0)).sum(1, keepdim=True) * units(4, 0)
    torch.testing.assert_close(gradient, copied.grad)


def test_queue__is_lightlys_memory_bank() -> None:
    moco, theirs = moco_of(queue=12), NTXentLoss(memory_bank_size=(12, 128)).memory_bank
    for seed in range(5):
        moco(batch_of(seed))
        keys = moco._project(batch_of(seed))[2]
        theirs(keys, update=True)
        moco.after_step()
    torch.testing.assert_close(moco.queue, theirs.bank)
    assert moco.pointer == theirs.bank_ptr == 8


def test_queue__begins_empty_and_wraps() -> None:
    moco = moco_of(queue=10)
    assert moco(batch_of()).parts["negatives"] == 3  # the batch's other keys
    moco.after_step()
    assert (moco.queue_groups == EMPTY).sum() == 6
    batch = batch_of(1)
    losses = moco(batch)
    assert losses.parts["negatives"] == 7
    queries, keys = moco._project(batch)[1:]
    others = torch.cat([keys, moco.queue[:4]])
    own = torch.eye(4, 8, dtype=torch.bool)
    assert losses.total.item() == pytest.approx(info_nce(queries, keys, others, own, 0.2)[0].item(), rel=1e-6)
    moco.after_step()
    moco(batch_of(2))
    moco.after_step()
    assert moco.pointer == 2
    newest = pairs.group_numbers(batch_of(2).group_id, torch.device("cpu"))
    assert torch.equal(moco.queue_groups[[8, 9, 0, 1]], newest)
    moco(batch_of(3, count=12))
    moco.after_step()  # more keys than places: the last ones stay
    newest = pairs.group_numbers(batch_of(3, count=12).group_id, torch.device("cpu"))[-10:]
    assert sorted(moco.queue_groups.tolist()) == sorted(newest.tolist())


def test_queue__same_group_does_not_repel() -> None:
    moco, batch = moco_of(queue=8), batch_of()
    moco(batch)
    moco.after_step()
    assert moco(batch).parts["negatives"] == 6  # three in the batch, three in the queue
    alone = replace(batch, group_id=("a",) * 4)
    assert moco(alone).parts["negatives"] == 4
    moco(alone)
    moco.after_step()
    assert moco(alone).parts["negatives"] == 4


def test_call__changes_nothing_and_after_step_moves_the_teacher() -> None:
    moco, batch = moco_of(queue=8, momentum=0.9), batch_of()
    before = {name: tensor.clone() for name, tensor in moco.state_dict().items()}
    assert torch.equal(moco(batch).total, moco(batch).total)
    assert all(torch.equal(tensor, before[name]) for name, tensor in moco.state_dict().items())
    with torch.no_grad():
        for parameter in (*moco.encoder.parameters(), *moco.projector.parameters()):
            parameter.add_(0.1)
    theirs = moco_of(queue=8)
    update_momentum(moco.encoder, theirs.teacher.requires_grad_(False), m=0.9)
    update_momentum(moco.projector, theirs.teacher_projector, m=0.9)
    moco.after_step()
    for mine, other in zip(moco.teacher.parameters(), theirs.teacher.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    for mine, other in zip(moco.teacher_projector.parameters(), theirs.teacher_projector.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    moco(batch).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in moco.teacher.parameters())


def test_learning__probe_gains_a_quarter() -> None:
    before, after = learning.probe_accuracies(
        "moco", learning.gratings, learning.GRATING, steps=130, batch_size=32, learning_rate=2e-3
    )
    assert after >= before + 0.25, (before, after)
