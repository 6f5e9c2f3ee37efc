"""The shared losses against MONAI's, their closed forms and slow versions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from ssl_models.losses import channel_weight, dice_cross_entropy, weighted_squared_error
from ssl_models.protocols import Batch


@pytest.mark.parametrize(("classes", "size"), [(2, (8, 9)), (4, (4, 5, 6))])
def test_dice_cross_entropy__equals_monai(classes: int, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(3, classes, *size, requires_grad=True), torch.randint(classes, (3, 1, *size))
    theirs = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    # MONAI leaves the background out of the cross-entropy as well when told to leave it out of the Dice.
    expected = theirs.dice(logits, target) + torch.nn.functional.cross_entropy(logits, target[:, 0])
    actual = dice_cross_entropy(logits, target)
    torch.testing.assert_close(actual, expected)
    (mine,) = torch.autograd.grad(actual, logits)
    (other,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(mine, other)


def test_dice_cross_entropy__perfect_is_zero_and_empty_is_finite() -> None:
    target = torch.randint(2, (2, 1, 8, 8))
    logits = torch.cat([1 - target, target], 1) * 60.0
    assert dice_cross_entropy(logits, target) == pytest.approx(0, abs=1e-5)
    empty = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    assert torch.isfinite(dice_cross_entropy(logits, empty))


def test_dice_cross_entropy__float32_inside_autocast() -> None:
    logits, target = torch.randn(2, 2, 16, 16, dtype=torch.bfloat16), torch.randint(2, (2, 1, 16, 16))
    with torch.autocast("cpu", torch.bfloat16):
        inside = dice_cross_entropy(logits, target)
    assert inside.dtype == torch.float32
    assert inside == dice_cross_entropy(logits.float(), target)


@pytest.mark.parametrize("channels", [1, 2])
def test_weighted_squared_error__equals_a_slow_version(channels: int) -> None:
    draw = np.random.default_rng(0)
    predicted, target = draw.normal(size=(2, 3, 2, 4, 5))
    weight = draw.uniform(size=(3, channels, 4, 5)) * (draw.uniform(size=(3, channels, 4, 5)) < 0.5)
    weight[2] = 0
    expected = []
    for p, t, w in zip(predicted, target, weight, strict=True):
        w = np.broadcast_to(w, p.shape)
        expected.append((w * (p - t) ** 2).sum() / w.sum() if w.any() else 0)
    got = weighted_squared_error(*map(torch.from_numpy, (predicted, target, weight)))
    assert got.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_channel_weight__missing_ones_are_zero_in_every_crop_of_a_subject() -> None:
    batch = Batch(crops=torch.randn(2, 3, 2, 4, 4), sample_seed=torch.tensor([1, 2]), group_id=("a", "b"))
    assert channel_weight(batch).shape == (6, 2, 1, 1) and (channel_weight(batch) == 1).all()
    batch = replace(batch, channels_present=torch.tensor([[True, False], [True, True]]))
    assert channel_weight(batch).flatten(1).tolist() == [[1, 0]] * 3 + [[1, 1]] * 3
