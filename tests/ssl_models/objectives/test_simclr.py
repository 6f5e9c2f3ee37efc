"""SimCLR: NT-Xent against a slow NumPy version and against lightly's; groups; that it learns."""

from dataclasses import replace

import learning
import numpy as np
import pytest
import torch
from lightly.loss import NTXentLoss
from torch import Tensor

from ssl_models import encoders
from ssl_models.objectives.simclr import SimCLR, nt_xent
from ssl_models.protocols import Batch


def projected(count: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, 2, 5, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def slow_nt_xent(z: np.ndarray, groups: list[int], temperature: float) -> tuple[float, float, float]:
    """Loss, accuracy and number of negatives, crop by crop, as equation 1 of the paper has it."""
    z = z / np.linalg.norm(z, axis=2, keepdims=True)
    losses, right, negatives = [], [], []
    for subject in range(len(z)):
        for crop in range(2):
            similar = {(subject, 1 - crop): z[subject, crop] @ z[subject, 1 - crop]}
            for other in range(len(z)):
                if groups[other] != groups[subject]:
                    similar |= {(other, c): z[subject, crop] @ z[other, c] for c in range(2)}
            exponents = {key: np.exp(value / temperature) for key, value in similar.items()}
            losses.append(-np.log(exponents[subject, 1 - crop] / sum(exponents.values())))
            right.append(max(similar, key=similar.__getitem__) == (subject, 1 - crop))
            negatives.append(len(similar) - 1)
    return float(np.mean(losses)), float(np.mean(right)), float(np.mean(negatives))


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4, 5], [7, 1, 7, 2, 2, 7], [3, 3, 3, 3, 3, 3]])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent__equals_the_published_formula(groups: list[int], temperature: float) -> None:
    z = projected()
    found = nt_xent(z, torch.tensor(groups), temperature)
    expected = slow_nt_xent(z.detach().double().numpy(), groups, temperature)
    assert [x.item() for x in found] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_nt_xent__equals_lightly_gradient_included() -> None:
    z = projected()
    nt_xent(z, torch.arange(6), 0.3).loss.backward()
    theirs = projected()
    loss = NTXentLoss(temperature=0.3)(theirs[:, 0], theirs[:, 1])
    loss.backward()
    assert nt_xent(z, torch.arange(6), 0.3).loss.item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(z.grad, theirs.grad)


def test_nt_xent__a_group_alone_teaches_nothing() -> None:
    z = projected()
    contrast = nt_xent(z, torch.zeros(6, dtype=torch.int64), 0.2)
    contrast.loss.backward()
    assert contrast.loss == 0 and contrast.negatives == 0
    assert z.grad is not None and z.grad.abs().max() == 0


def test_loss__repels_other_groups_only_and_takes_two_crops() -> None:
    torch.manual_seed(0)
    simclr = SimCLR(encoders.build("resunet", size="tiny", in_channels=1, geometry=learning.GRATING))
    batch, _ = learning.gratings(4, 0, crops=3)
    losses = simclr(batch)
    assert losses.parts["negatives"] == 6
    assert simclr(replace(batch, group_id=("a", "a", "b", "c"))).parts["negatives"] == 5
    assert torch.equal(simclr(first_two(batch)).total, losses.total)
    assert losses.embedding is not None and losses.embedding.shape == (4, simclr.encoder.widths[-1])
    torch.testing.assert_close(losses.embedding, simclr.encoder(batch.crops[:, 0])[-1].mean((2, 3)).detach())


def first_two(batch: Batch) -> Batch:
    return replace(batch, crops=batch.crops[:, :2])


def test_examples__show_which_crop_was_taken() -> None:
    torch.manual_seed(0)
    simclr = SimCLR(encoders.build("resunet", size="tiny", in_channels=1, geometry=learning.GRATING))
    batch, _ = learning.gratings(4, 0, crops=2)
    panels = simclr.examples(replace(batch, crops=batch.crops[:, :1].expand(-1, 2, -1, -1, -1)))
    assert torch.equal(panels["taken for it"], panels["crop"])  # its own copy is nearest
    panels = simclr.examples(batch)
    assert torch.equal(panels["other crop"], batch.crops[:, 1])
    choices = {tuple(panel.flatten().tolist()) for panel in batch.crops[:, 1]}
    assert all(tuple(panel.flatten().tolist()) in choices for panel in panels["taken for it"])


def test_learning__probe_gains_a_quarter() -> None:
    before, after = learning.probe_accuracies(
        "simclr", learning.gratings, learning.GRATING, steps=80, batch_size=32, learning_rate=2e-3
    )
    assert after >= before + 0.25, (before, after)
