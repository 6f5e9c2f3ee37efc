"""Proposals: the loss by hand, who is left out, and that a network outgrows a rule that is often wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_models import encoders, objectives
from ssl_models.losses import dice_cross_entropy
from ssl_models.objectives.proposals import Proposals, crop_losses, small_loss
from ssl_models.protocols import Batch, Geometry

GEOMETRY = Geometry((32, 32), ((1, 1), (2, 2), (2, 2)), (8, 8))


def squares(count: int, seed: int, wrong: float) -> tuple[Batch, torch.Tensor]:
    """Noisy crops with a bright square; a share of the proposals marks a random other place. And the truth."""
    draw = np.random.default_rng(seed)
    crops = draw.normal(0, 0.5, (count, 1, 1, 32, 32)).astype(np.float32)
    truth, proposed = np.zeros((2, count, 1, 32, 32), dtype=np.int64)
    for i in range(count):
        (y, x), (v, u) = draw.integers(0, 20, (2, 2))
        crops[i, 0, 0, y : y + 12, x : x + 12] += 1.5
        truth[i, 0, y : y + 12, x : x + 12] = 1
        if draw.random() < wrong:
            y, x = v, u
        proposed[i, 0, y : y + 12, x : x + 12] = 1
    batch = Batch(
        crops=torch.from_numpy(crops), sample_seed=torch.arange(count), group_id=tuple(map(str, range(count))),
        proposals=torch.from_numpy(proposed)[:, None],
    )  # fmt: skip
    return batch, torch.from_numpy(truth)


def proposals(left_out: float = 0.3) -> Proposals:
    torch.manual_seed(0)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=GEOMETRY)
    built = objectives.build("proposals", encoder, settings={"proposals": {"left_out": left_out}}, painter=None)
    assert isinstance(built, Proposals)
    return built


def test_crop_losses__equal_a_slow_version() -> None:
    draw = np.random.default_rng(0)
    logits, target = draw.normal(size=(3, 2, 4, 5)), draw.integers(0, 2, (3, 1, 4, 5))
    expected = []
    for one, truth in zip(logits, target[:, 0], strict=True):
        probability = np.exp(one) / np.exp(one).sum(0)
        entropy = -np.mean(np.log(np.take_along_axis(probability, truth[None], 0)))
        found = probability[1]
        expected.append(1 - (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1) + entropy)
    got = crop_losses(torch.from_numpy(logits), torch.from_numpy(target))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


def test_small_loss__worst_of_each_kind_is_left_out() -> None:
    losses = torch.tensor([5.0, 1, 2, 3, 0.5, 0.1, 0.9, 0.2])
    kind = torch.tensor([True, True, True, True, False, False, False, False])
    kept = small_loss(losses, kind, 0.25)
    assert kept.tolist() == [False, True, True, True, True, True, False, True]
    assert small_loss(losses, kind, 0.0).all()


def test_forward__nothing_left_out__is_dice_cross_entropy() -> None:
    objective, (batch, _) = proposals(0.0), squares(4, 0, 0.0)
    assert batch.proposals is not None
    logits = objective.decoder(objective.encoder(batch.crops[:, 0]))
    torch.testing.assert_close(objective(batch).total, dice_cross_entropy(logits, batch.proposals[:, 0]))


def test_forward__batch_without_proposals__says_so() -> None:
    batch, _ = squares(2, 0, 0.0)
    plain = Batch(crops=batch.crops, sample_seed=batch.sample_seed, group_id=batch.group_id)
    with pytest.raises(ValueError, match="needs batches with proposals"):
        proposals()(plain)


def trained(wrong: float) -> tuple[float, float]:
    """Mean Dice against the truth of a network after 40 steps, and of the proposals it learned from."""
    objective = proposals()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(40):
        batch, _ = squares(16, step, wrong)
        optimizer.zero_grad()
        objective(batch).total.backward()
        optimizer.step()
    batch, truth = squares(64, 999, wrong)
    assert batch.proposals is not None
    objective.eval()
    with torch.no_grad():
        found = objective.decoder(objective.encoder(batch.crops[:, 0])).argmax(1, keepdim=True)
    masks = found, batch.proposals[:, 0]
    network, rule = (float((2 * (m * truth).sum((1, 2, 3)) / (m + truth).sum((1, 2, 3))).mean()) for m in masks)
    return network, rule


def test_training__three_tenths_of_the_proposals_wrong__the_network_is_better_than_they_are() -> None:
    network, rule = trained(wrong=0.3)
    assert network > rule + 0.05
