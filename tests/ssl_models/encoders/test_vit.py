"""The transformer encoder: shapes, kept tokens, positions, the pyramid and attention."""

import pytest
import torch

from ssl_models.encoders.vit import ViTEncoder, attention, pyramid_strides
from ssl_models.protocols import Encoder

CASES = {"2d": ((16, 32), (8, 8)), "3d": ((8, 8, 8), (4, 4, 4)), "anisotropic": ((4, 16, 16), (2, 8, 8))}


def encoder_of(case: str) -> tuple[ViTEncoder, torch.Tensor]:
    size, patch = CASES[case]
    torch.manual_seed(0)
    encoder = ViTEncoder(in_channels=2, crop_shape=size, patch_shape=patch, width=64, depth=2, heads=2)
    return encoder, torch.randn(2, 2, *size)


@pytest.mark.parametrize("case", CASES)
def test_forward__maps_have_the_promised_widths_and_strides(case: str) -> None:
    encoder, x = encoder_of(case)
    assert isinstance(encoder, Encoder)
    assert set(encoder.strides[0]) == {1} and encoder.strides[-1] == CASES[case][1]
    features = encoder(x)
    assert len(features) == len(encoder.widths)
    for feature, width, stride in zip(features, encoder.widths, encoder.strides, strict=True):
        assert feature.shape == (2, width, *(n // s for n, s in zip(x.shape[2:], stride, strict=True)))


@pytest.mark.parametrize("case", CASES)
def test_forward__gradient_reaches_every_parameter(case: str) -> None:
    encoder, x = encoder_of(case)
    sum((feature * torch.randn_like(feature)).mean() for feature in encoder(x)).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_tokens__sees_only_the_kept_ones() -> None:
    encoder, x = encoder_of("2d")
    keep = torch.tensor([[5, 0, 2], [1, 7, 3]])
    kept = encoder.tokens(x, keep)
    assert kept.shape == (2, 3, 64)
    changed = x.clone()
    changed[0, :, :8, 8:16] = 100  # token 1: kept in the second sample only
    changed[1, :, :8, 8:16] = 100
    again = encoder.tokens(changed, keep)
    assert torch.equal(again[0], kept[0])
    assert not torch.allclose(again[1], kept[1])


def test_tokens__all_kept_in_another_order_is_a_permutation() -> None:
    encoder, x = encoder_of("anisotropic")
    keep = torch.stack([torch.randperm(8), torch.randperm(8)])
    expected = torch.stack([row[index] for row, index in zip(encoder.tokens(x), keep, strict=True)])
    torch.testing.assert_close(encoder.tokens(x, keep), expected)


def test_forward__another_size_than_the_crop() -> None:
    encoder, _ = encoder_of("2d")
    assert encoder(torch.randn(1, 2, 24, 16))[-1].shape == (1, 64, 3, 2)
    assert torch.equal(encoder.positions((2, 3)), encoder.positions((2, 4)).view(2, 4, 64)[:, :3].flatten(0, 1))


def test_init__refuses_what_does_not_divide() -> None:
    with pytest.raises(ValueError, match="not divisible by 5 heads"):
        ViTEncoder(in_channels=1, crop_shape=(8, 8), patch_shape=(4, 4), width=64, depth=1, heads=5)
    with pytest.raises(ValueError, match="not divisible by the patch"):
        ViTEncoder(in_channels=1, crop_shape=(9, 8), patch_shape=(4, 4), width=64, depth=1, heads=2)


def test_pyramid_strides__greatest_axes_first() -> None:
    assert pyramid_strides((2, 8, 8)) == ((1, 1, 1), (2, 2, 2), (2, 4, 4), (2, 8, 8))
    assert pyramid_strides((14, 14)) == ((1, 1), (7, 7), (14, 14))
    assert pyramid_strides((1, 1)) == ((1, 1),)


def test_attention__bfloat16_is_the_fused_kernel_up_to_rounding() -> None:
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, 40, 16, requires_grad=True) for _ in range(3)]
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    wanted, found = attention(*exact), attention(*rounded)
    torch.testing.assert_close(found.float(), wanted, atol=0.03, rtol=0.03)
    wanted.sum().backward()
    found.sum().backward()
    for a, b in zip(rounded, exact, strict=True):
        torch.testing.assert_close(a.grad.float(), b.grad, atol=0.05, rtol=0.05)
