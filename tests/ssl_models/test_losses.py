"""The shared dense loss against MONAI's and its closed forms."""

import pytest
import torch
from monai.losses import DiceCELoss

from ssl_models.losses import dice_cross_entropy


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
