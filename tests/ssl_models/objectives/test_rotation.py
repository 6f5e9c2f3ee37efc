"""Rotation: the turns against NumPy's and the group they form, the loss, and what a probe gains."""

from itertools import combinations

import numpy as np
import pytest
import torch
from learning import IMAGE as IMAGE_OF_LEARNING
from learning import glyphs, probe_accuracies

from ssl_models.encoders import build
from ssl_models.objectives.rotation import Rotation, all_turns, possible
from ssl_models.protocols import Batch, Geometry, pooled

IMAGE = Geometry((16, 16), ((1, 1), (2, 2), (2, 2)), (4, 4))
VOLUME = Geometry((8, 8, 8), ((1, 1, 1), (2, 2, 2)), (4, 4, 4))


def rotation_of(encoder: str = "resunet", geometry: Geometry = IMAGE) -> Rotation:
    torch.manual_seed(0)
    return Rotation(build(encoder, size="tiny", in_channels=2, geometry=geometry))


def batch_of(size: tuple[int, ...] = (16, 16), clip: bool = False, count: int = 3) -> Batch:
    crops = torch.randn(count, 2, 2, *size, generator=torch.Generator().manual_seed(1))
    seconds = torch.arange(size[0]).double().expand(count, 2, -1) if clip else None
    return Batch(crops=crops, sample_seed=torch.arange(count) + 5, group_id=("g",) * count, seconds=seconds)


def test_all_turns__of_an_image_are_numpys() -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 5))
    ours = {turn(torch.from_numpy(x)).numpy().tobytes() for turn in all_turns(2)}
    assert ours == {np.rot90(x, k, (1, 2)).tobytes() for k in range(4)}


def test_all_turns__of_a_cube_are_all_that_numpy_can_reach() -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 3, 3))
    reached, new = {x.tobytes()}, [x]
    while new:  # quarter turns of what was reached, until nothing new comes
        turned = [np.rot90(y, 1, plane) for y in new for plane in combinations((1, 2, 3), 2)]
        new = list({y.tobytes(): y for y in turned if y.tobytes() not in reached}.values())
        reached |= {y.tobytes() for y in new}
    ours = [turn(torch.from_numpy(x)).numpy().tobytes() for turn in all_turns(3)]
    assert len(reached) == 24 and set(ours) == reached and len(ours) == 24


@pytest.mark.parametrize(
    ("size", "clip", "count"),
    [
        ((8, 8), False, 4), ((8, 6), False, 2), ((5, 5, 5), False, 24), ((4, 6, 6), False, 8), ((6, 4, 6), False, 8),
        ((4, 6, 8), False, 4), ((4, 6, 6), True, 4), ((4, 6, 8), True, 2), ((6, 6, 6), True, 4),
    ],
)  # fmt: skip
def test_possible__turns_keep_the_shape_and_can_be_undone(size: tuple[int, ...], clip: bool, count: int) -> None:
    x = torch.randn(2, *size)
    turns = [turn for turn in all_turns(len(size)) if possible(turn, size, clip)]
    assert len({turn(x).contiguous().numpy().tobytes() for turn in turns}) == len(turns) == count
    assert torch.equal(turns[0](x), x)
    for turn in turns:
        assert turn(x).shape == x.shape and torch.equal(turn.back(turn(x)), x)


def test_forward__frames_of_a_recording_are_turned_alike() -> None:
    batch = batch_of((6, 6, 6), clip=True, count=20)
    turned, drawn, allowed = rotation_of(geometry=VOLUME)._turned(batch)
    assert len(allowed) == 4 and set(drawn.tolist()) == {0, 1, 2, 3}
    for crop, result in zip(batch.crops.flatten(0, 1), turned, strict=True):
        same = [k for k in range(4) if torch.equal(torch.rot90(crop, k, (2, 3)), result)]
        assert len(same) == 1


def test_forward__every_turn_is_drawn_equally_often() -> None:
    _, drawn, allowed = rotation_of(geometry=VOLUME)._turned(batch_of((2, 2, 2), count=1200))
    often = torch.bincount(drawn) / len(drawn)
    assert len(allowed) == 24 and (often - 1 / 24).abs().max() < 0.02


@pytest.mark.parametrize("encoder", ["resunet", "vit"])
@pytest.mark.parametrize("size", [(16, 16), (16, 8)])
def test_loss__equals_a_slow_version(encoder: str, size: tuple[int, ...]) -> None:
    objective, batch = rotation_of(encoder), batch_of(size)
    losses = objective(batch)
    _, drawn, allowed = objective._turned(batch)
    weight, bias = (p.detach().double().numpy() for p in objective.head.parameters())
    entropies, right = [], []
    for crop, place in zip(batch.crops.flatten(0, 1).numpy(), drawn.tolist(), strict=True):
        kinds = range(4) if size[0] == size[1] else (0, 2)
        [k] = [
            k for k in kinds
            if np.array_equal(np.rot90(crop, k, (1, 2)), objective.turns[allowed[place]](torch.from_numpy(crop)))
        ]  # fmt: skip
        turned = torch.from_numpy(np.rot90(crop, k, (1, 2)).copy())
        with torch.no_grad():
            features = pooled(objective.encoder(turned[None]))[0].double().numpy()
        logits = (weight @ features + bias)[allowed]
        entropies.append(np.log(np.exp(logits).sum()) - logits[place])
        right.append(logits.argmax() == place)
    assert losses.total.item() == pytest.approx(np.mean(entropies), rel=1e-4)
    assert losses.parts["accuracy"].item() == pytest.approx(np.mean(right))


def test_examples__are_turned_back_as_predicted() -> None:
    objective, batch = rotation_of(), batch_of()
    panels = objective.examples(batch)
    assert list(panels) == ["original", "rotated", "turned back"]
    turned, drawn, allowed = objective._turned(batch)
    assert torch.equal(panels["rotated"], turned[::2, 1:])
    torch.nn.init.zeros_(objective.head.weight)
    objective.head.bias.data = torch.eye(4)[allowed[int(drawn[0])]]  # always says what is right for the first crop
    assert torch.equal(objective.examples(batch)["turned back"][0], panels["original"][0])


def test_learning__a_probe_on_its_features_tells_figures_that_look_different_after_a_turn() -> None:
    before, after = probe_accuracies("rotation", glyphs, IMAGE_OF_LEARNING, steps=60)
    assert after > before + 0.1, (before, after)
