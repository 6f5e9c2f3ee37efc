"""The segmentation decoder: full resolution from any feature pyramid, gradients, layout and its refusals."""

import pytest
import torch

from ssl_models.decoders.segmentation import SegmentationDecoder, ratio

CASES = {
    "2d": ((32, 16), ((1, 1), (2, 2), (4, 4))),
    "3d": ((8, 8, 8), ((1, 1, 1), (2, 2, 2))),
    "anisotropic": ((6, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 4, 4))),
    "stem_then_pyramid": ((16, 16, 16), ((1, 1, 1), (4, 4, 4), (8, 8, 8))),
}
WIDTHS = (16, 24, 32)


def decoder_of(case: str) -> tuple[SegmentationDecoder, list[torch.Tensor]]:
    size, strides = CASES[case]
    widths = WIDTHS[: len(strides)]
    torch.manual_seed(0)
    features = [
        torch.randn(2, width, *(n // s for n, s in zip(size, stride, strict=True)))
        for width, stride in zip(widths, strides, strict=True)
    ]
    return SegmentationDecoder(widths=widths, strides=strides, out_channels=3), features


@pytest.mark.parametrize("case", CASES)
def test_forward__logits_have_the_full_resolution(case: str) -> None:
    decoder, features = decoder_of(case)
    assert decoder(features).shape == (2, 3, *CASES[case][0])


@pytest.mark.parametrize("case", CASES)
def test_forward__gradient_reaches_every_parameter_and_feature(case: str) -> None:
    decoder, features = decoder_of(case)
    features = [feature.requires_grad_() for feature in features]
    decoder(features).square().mean().backward()
    for name, tensor in [*decoder.named_parameters(), *enumerate(features)]:
        assert tensor.grad is not None and tensor.grad.abs().max() > 0, name


@pytest.mark.parametrize("case", CASES)
def test_forward__channels_last_stays_channels_last_under_autocast(case: str) -> None:
    decoder, features = decoder_of(case)
    layout = torch.channels_last if len(CASES[case][0]) == 2 else torch.channels_last_3d
    decoder = decoder.to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        logits = decoder([feature.to(memory_format=layout) for feature in features])
    assert logits.is_contiguous(memory_format=layout)


def test_forward__wrong_number_of_maps_is_refused() -> None:
    decoder, features = decoder_of("2d")
    with pytest.raises(ValueError, match="2 feature maps given, but the decoder takes 3"):
        decoder(features[:2])


def test_init__wrong_pyramids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"its stride is \(2, 2\)"):
        SegmentationDecoder(widths=(16,), strides=((2, 2),), out_channels=1)
    with pytest.raises(ValueError, match=r"1 widths .* but 2 strides"):
        SegmentationDecoder(widths=(16,), strides=((1, 1), (2, 2)), out_channels=1)


def test_ratio__indivisible_strides_name_both_sides() -> None:
    assert ratio((1, 2, 2), (2, 8, 8)) == (2, 4, 4)
    with pytest.raises(ValueError, match=r"\(2, 2\) of a feature map does not divide the next one's, \(3, 4\)"):
        ratio((2, 2), (3, 4))
