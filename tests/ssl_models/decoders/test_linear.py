"""The dense linear probe is one linear layer: the same as a 1x1 convolution of all maps, enlarged and joined."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ssl_models.decoders.linear import LinearDecoder


@pytest.mark.parametrize("axes", [2, 3])
def test_forward__is_one_layer_on_the_joined_maps(axes: int) -> None:
    widths, strides = (4, 6, 8), tuple((n,) * axes for n in (1, 2, 4))
    probe = LinearDecoder(widths=widths, strides=strides, out_channels=3)
    features = [torch.randn(2, w, *(16 // n for n in s)) for w, s in zip(widths, strides, strict=True)]
    mode = {2: "bilinear", 3: "trilinear"}[axes]
    joined = torch.cat([F.interpolate(f, (16,) * axes, mode=mode) for f in features], 1)
    weight = torch.cat([layer.weight for layer in probe.logits], 1)
    reference = torch.einsum("oi,bi...->bo...", weight.flatten(1), joined)
    reference = reference + probe.logits[0].bias.view(-1, *[1] * axes)
    torch.testing.assert_close(probe(features), reference, rtol=1e-4, atol=1e-5)


def test_init__refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="full resolution"):
        LinearDecoder(widths=(4,), strides=((2, 2),), out_channels=2)
    probe = LinearDecoder(widths=(4, 6), strides=((1, 1), (2, 2)), out_channels=2)
    with pytest.raises(ValueError):
        probe([torch.zeros(1, 4, 8, 8)])
