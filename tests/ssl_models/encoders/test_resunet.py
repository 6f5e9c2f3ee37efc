"""The residual encoder: shapes, strides, gradients, layout and its refusals."""

import pytest
import torch

from ssl_models.encoders.resunet import ResUNetEncoder
from ssl_models.encoders.staged import group_norm
from ssl_models.protocols import Encoder

CASES = {
    "2d": (((1, 1), (2, 2), (2, 2)), (32, 16), ((1, 1), (2, 2), (4, 4))),
    "3d": (((1, 1, 1), (2, 2, 2)), (8, 8, 8), ((1, 1, 1), (2, 2, 2))),
    "anisotropic": (((1, 1, 1), (1, 2, 2), (2, 2, 2)), (6, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 4, 4))),
}


def encoder_of(case: str) -> tuple[ResUNetEncoder, torch.Tensor]:
    pooling, size, _ = CASES[case]
    torch.manual_seed(0)
    return ResUNetEncoder(in_channels=2, widths=(16, 32, 32)[: len(pooling)], pooling=pooling), torch.randn(2, 2, *size)


@pytest.mark.parametrize("case", CASES)
def test_forward__maps_have_the_promised_widths_and_strides(case: str) -> None:
    encoder, x = encoder_of(case)
    assert isinstance(encoder, Encoder)
    assert encoder.in_channels == 2
    assert encoder.spatial_axes == x.ndim - 2
    assert encoder.strides == CASES[case][2]
    features = encoder(x)
    assert len(features) == len(encoder.widths)
    for feature, width, stride in zip(features, encoder.widths, encoder.strides, strict=True):
        assert feature.shape == (2, width, *(n // s for n, s in zip(x.shape[2:], stride, strict=True)))


@pytest.mark.parametrize("case", CASES)
def test_forward__gradient_reaches_every_parameter(case: str) -> None:
    encoder, x = encoder_of(case)
    sum(feature.square().mean() for feature in encoder(x)).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("case", CASES)
def test_forward__channels_last_stays_channels_last_under_autocast(case: str) -> None:
    encoder, x = encoder_of(case)
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    encoder = encoder.to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(x.to(memory_format=layout))
    assert all(feature.is_contiguous(memory_format=layout) for feature in features)
    assert all(feature.dtype == torch.bfloat16 for feature in features)


def test_forward__samples_do_not_mix() -> None:
    encoder, x = encoder_of("2d")
    torch.testing.assert_close(encoder(x)[-1][:1], encoder(x[:1])[-1])


def test_forward__indivisible_size_names_both_sides() -> None:
    encoder, _ = encoder_of("anisotropic")
    with pytest.raises(ValueError, match=r"\(6, 16, 18\) is not divisible by .* coarsest stride \(2, 4, 4\)"):
        encoder(torch.zeros(1, 2, 6, 16, 18))


def test_init__wrong_stages_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 widths .* but 1 poolings"):
        ResUNetEncoder(in_channels=1, widths=(16, 32), pooling=((1, 1),))
    with pytest.raises(ValueError, match=r"its pooling is \(2, 2\)"):
        ResUNetEncoder(in_channels=1, widths=(16,), pooling=((2, 2),))


def test_group_norm__sixteen_channels_in_a_group_or_one_group() -> None:
    assert group_norm(64) == ("group", {"num_groups": 4})
    assert group_norm(24) == group_norm(8) == ("group", {"num_groups": 1})
