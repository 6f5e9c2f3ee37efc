"""World model: SIGReg against quadrature and its closed form, the rollout, ego-motion, and learning motion."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import SLIDING, SMALL_CLIP, probe_accuracies, slides, small_motions
from torch import Tensor

from ssl_models import encoders, objectives
from ssl_models.objectives.world_model import WorldModel, sigreg
from ssl_models.protocols import Batch


def world(actions: int = 2, seed: int = 0) -> WorldModel:
    torch.manual_seed(seed)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=SMALL_CLIP)
    built = objectives.build("world_model", encoder, settings={}, painter=None, actions=actions)
    assert isinstance(built, WorldModel)
    return built


def unseen_ego(count: int, seed: int, crops: int = 1) -> tuple[Batch, Tensor]:
    """`slides` without actions."""
    batch, kinds = slides(count, seed, crops)
    return replace(batch, actions=None), kinds


def test_sigreg__equals_numpy() -> None:
    draw = np.random.default_rng(0)
    z, directions = draw.normal(1, 2, (30, 5)), draw.normal(size=(5, 7))
    directions /= np.linalg.norm(directions, axis=0)
    t = np.linspace(-3, 3, 33)
    values = []
    for direction in directions.T:
        empirical = np.array([np.mean(np.exp(1j * s * (z @ direction))) for s in t])
        distance = abs(empirical - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
        values.append(((distance[1:] + distance[:-1]) / 2 * np.diff(t)).sum())
    places, along = torch.from_numpy(z).unsqueeze(0), torch.from_numpy(directions).float()
    assert sigreg(places, along).item() == pytest.approx(np.mean(values), rel=1e-5)
    two = torch.cat([places, 2 * places])
    assert sigreg(two, along).item() == pytest.approx((np.mean(values) + sigreg(two[1:], along).item()) / 2, rel=1e-5)


def test_sigreg__is_near_the_closed_form_of_the_whole_integral() -> None:
    x = np.random.default_rng(1).normal(0.5, 1.3, 50)
    pairs = math.sqrt(2 * math.pi) * np.exp(-((x[:, None] - x) ** 2) / 2).mean()
    expected = pairs - 2 * math.sqrt(math.pi) * np.exp(-(x**2) / 4).mean() + math.sqrt(2 * math.pi / 3)
    assert sigreg(torch.from_numpy(x)[None, :, None], torch.ones(1, 1)).item() == pytest.approx(expected, abs=1e-3)


def test_sigreg__a_gaussian_is_least_and_a_constant_is_most() -> None:
    draw = torch.Generator().manual_seed(0)
    z, directions = torch.randn(1, 4000, 8, generator=draw), torch.randn(8, 64, generator=draw)
    directions = directions / directions.norm(dim=0)
    gaussian = sigreg(z, directions)
    flat = z.clone()
    flat[..., 4:] = 0  # half of the directions have collapsed
    assert gaussian < 0.002
    for other in (flat, 2 * z, 0.3 * z, z + 1):
        assert sigreg(other, directions) > 20 * gaussian
    assert sigreg(0 * z, directions) > sigreg(flat, directions)


def test_forward__equals_its_parts_by_hand() -> None:
    objective, (batch, _) = world(), small_motions(3, 0)
    losses, clips = objective(batch), batch.crops[:, 0]
    assert batch.actions is not None
    with torch.no_grad():
        before = objective.project(objective.encoder(clips[:, :, :2])[-1])
        after = objective.project(objective.encoder(clips[:, :, 2:])[-1])
        actions = torch.stack([batch.actions[:, 0, 2:4].mean(1), batch.actions[:, 0, 4:6].mean(1)], 1)
        first = objective.rollout(before[:, :, 0], 1, actions[:, :1])
        second = objective.rollout(first[:, :, 0], 1, actions[:, 1:])
    prediction = ((torch.cat([first, second], 2) - after) ** 2).mean().item()
    copied = ((before.expand_as(after) - after) ** 2).mean().item()
    assert losses.parts["prediction"].item() == pytest.approx(prediction, rel=1e-4)
    assert losses.parts["copy"].item() == pytest.approx(copied, rel=1e-4)
    expected = prediction + 10 * losses.parts["sigreg"].item()
    assert losses.total.item() == pytest.approx(expected, rel=1e-4)


def test_forward__states_that_only_tell_the_place_do_not_pass_for_a_gaussian() -> None:
    objective, (batch, _) = world(), small_motions(16, 0)
    draw = torch.Generator().manual_seed(0)
    alike = torch.randn(1, 64, 3, 8, 8, generator=draw).expand(16, -1, -1, -1, -1)
    other = torch.randn(16, 64, 3, 8, 8, generator=draw)
    poor = sigreg(*objective._sketch(alike, batch.sample_seed))
    assert poor > 3 * sigreg(*objective._sketch(other, batch.sample_seed))


def test_forward__without_actions() -> None:
    with_actions, _ = small_motions(3, 0)
    batch = replace(with_actions, actions=None)
    for objective in (world(actions=0), world(actions=2)):
        assert torch.isfinite(objective(batch).total)
    assert world(actions=0)(with_actions).total == world(actions=0)(batch).total
    assert world(actions=2)(with_actions).total != world(actions=2)(batch).total


def test_world_model__learns_motion_from_frames_alone() -> None:
    # Textures that slide as a whole: where only a blob moves, most of what is predicted stands still.
    before, after = probe_accuracies("world_model", unseen_ego, SLIDING, steps=50)
    assert after > before + 0.1, (before, after)


def test_world_model__a_rollout_beats_copying_and_shuffled_ego_motion_misleads_it() -> None:
    torch.manual_seed(0)
    encoder = encoders.build("resunet", size="tiny", in_channels=1, geometry=SLIDING)
    objective = WorldModel(encoder, actions=2)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=2e-3)
    for step in range(40):
        objective(slides(32, 100 + step)[0]).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    batch, _ = slides(128, 7)
    assert batch.actions is not None
    with torch.no_grad():
        true, shuffled = objective(batch).parts, objective(replace(batch, actions=batch.actions.roll(1, 0))).parts
    assert true["prediction"] < 0.7 * true["copy"]
    assert shuffled["prediction"] > 1.1 * true["prediction"]
