"""Groups, schedule and averaged weights."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from ssl_models import optim
from ssl_models.encoders.resunet import ResUNetEncoder
from ssl_models.encoders.vit import ViTEncoder


def model_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "vit":
        encoder: nn.Module = ViTEncoder(
            in_channels=1, crop_shape=(8, 8), patch_shape=(4, 4), width=32, depth=3, heads=2
        )
    else:
        encoder = ResUNetEncoder(in_channels=1, widths=(16, 16, 16), pooling=((1, 1), (2, 2), (2, 2)))
    return nn.ModuleDict({"encoder": encoder, "head": nn.Linear(4, 2)})


@pytest.mark.parametrize("kind", ["vit", "resunet"])
def test_parameter_groups__every_parameter_once_and_vectors_do_not_decay(kind: str) -> None:
    model = model_of(kind)
    groups = optim.parameter_groups(model, weight_decay=0.05, layer_decay=0.75)
    seen = [id(p) for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())
    for group in groups:
        assert group["weight_decay"] in (0.0, 0.05)
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


@pytest.mark.parametrize(("kind", "first", "last"), [("vit", "embed", "blocks.2"), ("resunet", "stages.0", "stages.2")])
def test_parameter_groups__layer_decay_falls_with_depth(kind: str, first: str, last: str) -> None:
    model = model_of(kind)
    groups = optim.parameter_groups(model, weight_decay=0.05, layer_decay=0.5)
    scale = {id(p): group["scale"] for group in groups for p in group["params"]}
    of = {name: scale[id(p)] for name, p in model.named_parameters()}
    deepest = 4 if kind == "vit" else 3
    assert all(value == 0.5**deepest for name, value in of.items() if name.startswith(f"encoder.{first}."))
    assert all(value == 0.5 for name, value in of.items() if name.startswith(f"encoder.{last}."))
    assert of["head.weight"] == 1
    if kind == "vit":
        assert of["encoder.norm.weight"] == of["encoder.stem.0.conv1.conv.weight"] == 1


def test_parameter_groups__frozen_parameters_are_left_out() -> None:
    model = model_of("resunet")
    for parameter in model["encoder"].parameters():
        parameter.requires_grad_(False)
    groups = optim.parameter_groups(model, weight_decay=0.05)
    assert sum(len(group["params"]) for group in groups) == 2


def test_warmup_cosine__known_points() -> None:
    factor = [optim.warmup_cosine(step, steps=100, warmup_steps=20) for step in range(101)]
    assert factor[0] == 1 / 20
    assert factor[19] == factor[20] == 1
    assert factor[60] == pytest.approx(0.5)
    assert factor[100] == pytest.approx(0)
    assert all(a >= b for a, b in pairwise(factor[20:]))
    assert optim.warmup_cosine(0, steps=5, warmup_steps=0) == 1


def test_set_learning_rate__keeps_scales() -> None:
    optimizer = optim.adamw(optim.parameter_groups(model_of("vit"), weight_decay=0.1, layer_decay=0.5), learning_rate=1)
    optim.set_learning_rate(optimizer, 0.2)
    assert {group["lr"] for group in optimizer.param_groups} == {0.2 * 0.5**n for n in (0, 1, 2, 3, 4)}


def test_adamw__equals_the_formula_and_itself() -> None:
    def trained() -> torch.Tensor:
        weight = nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
        optimizer = optim.adamw([{"params": [weight], "scale": 1.0, "weight_decay": 0.1}], learning_rate=0.01)
        for n in range(1, 4):
            weight.grad = torch.full_like(weight, float(n))
            optimizer.step()
        return weight.detach()

    weight = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
    first = second = 0.0
    for n in range(1, 4):
        first, second = 0.9 * first + 0.1 * n, 0.95 * second + 0.05 * n**2
        weight = weight * (1 - 0.01 * 0.1)
        weight = weight - 0.01 * (first / (1 - 0.9**n)) / ((second / (1 - 0.95**n)) ** 0.5 + 1e-8)
    torch.testing.assert_close(trained(), weight.float())
    assert torch.equal(trained(), trained())


def test_averaged_weights__follow_the_formula_and_resume() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    averaged = optim.AveragedWeights(model, decay=0.9)
    expected = {name: value.clone() for name, value in averaged.state_dict().items()}
    assert "1.running_mean" in expected and "1.num_batches_tracked" not in expected
    for step in (0, 50, 1000):
        with torch.no_grad():
            for value in model.parameters():
                value.add_(1)
        averaged.update(model, step)
        now = model.state_dict()
        decay = {0: 1 / 10, 50: 51 / 60, 1000: 0.9}[step]
        expected = {name: decay * value + (1 - decay) * now[name] for name, value in expected.items()}
    for name, value in averaged.state_dict().items():
        torch.testing.assert_close(value, expected[name])

    resumed = optim.AveragedWeights(model, decay=0.9)
    resumed.load_state_dict({name: value.clone() for name, value in averaged.state_dict().items()})
    averaged.update(model, 7)
    resumed.update(model, 7)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in averaged.state_dict().items())
    with pytest.raises(ValueError, match="do not belong"):
        resumed.load_state_dict({})


def test_move_teacher__follows_the_formula_and_trains_nothing() -> None:
    student = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    teacher = optim.frozen_copy(student)
    assert all(p.requires_grad for p in student.parameters()) and not any(p.requires_grad for p in teacher.parameters())
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert all(torch.equal(p, old) for p, old in zip(teacher.parameters(), before, strict=True))
    optim.move_teacher(teacher, student, 0.75)
    for moved, old in zip(teacher.parameters(), before, strict=True):
        torch.testing.assert_close(moved, old + 0.25)
