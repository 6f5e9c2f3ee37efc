"""Projector, groups as numbers and panels of objectives over two crops; ranks are in objectives/test_ranks.py."""

import pytest
import torch
from learning import GRATING, gratings
from torch import nn

from ssl_models import encoders, pairs
from ssl_models.protocols import pooled


def test_batch_norm__is_torchs_over_the_crops() -> None:
    ours, theirs = pairs.BatchNorm(5), nn.BatchNorm1d(5)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.linspace(0.5, 2, 5))
            norm.bias.copy_(torch.linspace(-1, 1, 5))
    x = (3 + 2 * torch.randn(4, 2, 5)).requires_grad_()
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(4, 2, 5)
    (ours(x) * weight).sum().backward()
    (theirs(y.flatten(0, 1)) * weight.flatten(0, 1)).sum().backward()
    torch.testing.assert_close(ours(x), theirs(y.flatten(0, 1)).unflatten(0, (4, 2)))
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_group_numbers__equal_where_groups_are_and_the_same_in_every_process() -> None:
    numbers = pairs.group_numbers(("a", "b", "a"), torch.device("cpu"))
    assert numbers[0] == numbers[2] != numbers[1] and (numbers >= 0).all()
    assert numbers[0] == 2340832890917691671


def test_gathered__alone_it_is_the_tensor_itself() -> None:
    x = torch.randn(3, 2)
    assert pairs.gathered(x) is x and pairs.rank() == 0


@pytest.mark.parametrize("name", [name for name in encoders.NAMES if encoders.takes(name, GRATING)])
def test_embedded__is_pooled_of_each_crop(name: str) -> None:
    torch.manual_seed(0)
    encoder = encoders.build(name, size="tiny", in_channels=1, geometry=GRATING)
    crops = gratings(3, 0, crops=2)[0].crops
    expected = pooled(encoder(crops.flatten(0, 1))).unflatten(0, (3, 2))
    torch.testing.assert_close(pairs.embedded(encoder, crops), expected)


def test_found_panels__shows_the_nearest_second_crop_in_its_middle_channel() -> None:
    batch = gratings(3, 0, crops=2)[0]
    first = torch.eye(3)
    second = 5 * torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.1, 0.1, 1.0]])
    panels = pairs.found_panels(batch, first, second)
    assert torch.equal(panels["taken for it"], batch.crops[[1, 0, 2], 1])
    assert torch.equal(panels["crop"], batch.crops[:, 0]) and torch.equal(panels["other crop"], batch.crops[:, 1])
