"""BYOL: its loss against a slow NumPy version and against lightly's; the teacher; that it learns, uncollapsed."""

from typing import Any

import learning
import numpy as np
import pytest
import torch
from lightly.loss import NegativeCosineSimilarity
from torch import nn

from ssl_models import encoders, health, pairs
from ssl_models.objectives.byol import BYOL
from ssl_models.optim import adamw, parameter_groups
from ssl_models.protocols import Batch, pooled


def byol_of(**settings: float) -> BYOL:
    torch.manual_seed(0)
    return BYOL(encoders.build("resunet", size="tiny", in_channels=1, geometry=learning.GRATING), **settings)


def batch_of(seed: int = 0, count: int = 4) -> Batch:
    return learning.gratings(count, seed, crops=2)[0]


class Given(BYOL):
    """Gets its predictions and targets told."""

    def _project(self, batch: Batch) -> Any:
        return torch.zeros(3, 2, 7), self.predicted, self.targets


def given() -> Given:
    objective = Given(encoders.build("resunet", size="tiny", in_channels=1, geometry=learning.GRATING))
    generator = torch.Generator().manual_seed(1)
    objective.predicted = nn.Parameter(torch.randn(3, 2, 5, generator=generator))
    objective.targets = torch.randn(3, 2, 5, generator=generator)
    return objective


def test_loss__equals_the_published_formula_halved() -> None:
    objective = given()
    predicted, targets = objective.predicted.detach().double().numpy(), objective.targets.double().numpy()
    of_subjects = []
    for b in range(3):
        both = 0.0
        for crop in range(2):
            q = predicted[b, crop] / np.linalg.norm(predicted[b, crop])
            z = targets[b, 1 - crop] / np.linalg.norm(targets[b, 1 - crop])
            both += ((q - z) ** 2).sum()
        of_subjects.append(both / 2)
    assert objective(batch_of()).total.item() == pytest.approx(np.mean(of_subjects), rel=1e-5)


def test_loss__equals_lightly() -> None:
    objective, theirs = given(), NegativeCosineSimilarity()
    loss = objective(batch_of()).total
    loss.backward()
    first, second = objective.predicted.detach().clone().requires_grad_().unbind(1)
    first.retain_grad(), second.retain_grad()
    expected = 0.5 * (theirs(first, objective.targets[:, 1]) + theirs(second, objective.targets[:, 0]))
    (2 + 2 * expected).backward()
    assert loss.item() == pytest.approx(2 + 2 * expected.item(), rel=1e-6)
    torch.testing.assert_close(objective.predicted.grad, torch.stack([first.grad, second.grad], 1))


def test_loss__each_crop_predicts_the_other_one() -> None:
    objective, batch = byol_of(), batch_of()
    _, predicted, targets = objective._project(batch)
    features = torch.stack([pooled(objective.encoder(crop)) for crop in batch.crops.unbind(1)], 1)
    torch.testing.assert_close(predicted, objective.predictor(objective.projector(features)))
    torch.testing.assert_close(targets, objective.teacher_projector(features))  # the teacher has not moved yet
    cos = nn.functional.cosine_similarity
    both = cos(predicted[:, 0], targets[:, 1]) + cos(predicted[:, 1], targets[:, 0])
    assert objective(batch).total.item() == pytest.approx((2 - both).mean().item(), rel=1e-5)


def test_call__changes_nothing_and_after_step_moves_the_teacher() -> None:
    objective, batch = byol_of(momentum=0.9), batch_of()
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    objective(batch).total.backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())
    with torch.no_grad():
        for parameter in (*objective.encoder.parameters(), *objective.projector.parameters()):
            parameter.add_(1)
    objective.after_step()
    for kind in ("teacher", "teacher_projector"):
        for name, tensor in objective.get_submodule(kind).named_parameters():
            torch.testing.assert_close(tensor, before[f"{kind}.{name}"] + 0.1)
            assert tensor.grad is None and not tensor.requires_grad


def target_std_after(objective: BYOL, steps: int) -> float:
    """Spread of the teacher's projections of crops it has not seen, over that of directions spread evenly."""
    optimizer = adamw(parameter_groups(objective, weight_decay=0.01), learning_rate=3e-3)
    for step in range(steps):
        objective(batch_of(100 + step, count=16)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()
    targets = objective._project(batch_of(1, count=32))[2]
    return health.feature_std(targets.flatten(0, 1)) * targets.shape[2] ** 0.5


def test_training__does_not_collapse_and_would_without_batch_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    assert target_std_after(byol_of(), 30) > 0.6
    monkeypatch.setattr(pairs, "BatchNorm", nn.LayerNorm)
    assert target_std_after(byol_of(), 30) < 0.2


def test_learning__probe_gains_a_tenth() -> None:
    before, after = learning.probe_accuracies(
        "byol", learning.gratings, learning.GRATING, steps=260, batch_size=16, learning_rate=1e-3
    )
    assert after >= before + 0.1, (before, after)
