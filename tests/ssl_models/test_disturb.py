"""Disturbances change what they claim to change and nothing else, in images, volumes and clips, the same every time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssl_models import disturb

SHAPES = {"image": ((2, 3, 40, 48), False), "volume": ((2, 1, 20, 24, 28), False), "clip": ((2, 3, 6, 32, 36), True)}


def crops(shape: tuple[int, ...]) -> Tensor:
    """Normalised crops: something smooth, something fine, a different spread in every channel."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    slope = torch.linspace(-1, 1, shape[-1]).expand(shape)
    return (slope + 0.5 * drawn) * torch.linspace(0.5, 2, shape[1]).view(1, -1, *[1] * (len(shape) - 2))


def space(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", disturb.NAMES)
def test_names__crop_by_crop_the_same_every_time_and_no_global_draw(name: str, kind: str) -> None:
    shape, time_axis = SHAPES[kind]
    x, change = crops(shape), disturb.NAMES[name]
    before, state = x.clone(), torch.get_rng_state()
    found = change(x, time_axis)
    assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)
    assert found.shape == x.shape and found.dtype == x.dtype and found.isfinite().all()
    assert (found - x).abs().mean() > 0.05 * x.std()
    assert torch.equal(change(x, time_axis), found)
    torch.testing.assert_close(change(x[1:], time_axis), found[1:])


@pytest.mark.parametrize("name", disturb.NAMES)
def test_names__a_channel_that_is_missing_stays_missing(name: str) -> None:
    torch.testing.assert_close(disturb.NAMES[name](torch.zeros(1, 2, 8, 8), False), torch.zeros(1, 2, 8, 8))


def test_words__one_for_every_name() -> None:
    assert disturb.WORDS.keys() == disturb.NAMES.keys() and len(set(disturb.WORDS.values())) == len(disturb.NAMES)


@pytest.mark.parametrize("kind", SHAPES)
def test_noise__is_the_stated_share_of_each_channels_spread(kind: str) -> None:
    x = crops(SHAPES[kind][0])
    added = disturb.noise(x) - x
    share = added.std(space(x)) / x.std(space(x))
    torch.testing.assert_close(share, torch.full_like(share, disturb.NOISE), rtol=0.05, atol=0)
    assert (added.mean(space(x)).abs() < 0.05 * x.std(space(x))).all()
    assert (torch.corrcoef(added[0].flatten(1)) - torch.eye(x.shape[1])).abs().max() < 0.1


@pytest.mark.parametrize("kind", SHAPES)
def test_blur__takes_the_fine_and_keeps_the_mean(kind: str) -> None:
    shape, time_axis = SHAPES[kind]
    x = crops(shape)
    found = disturb.blur(x, time_axis)
    axes = space(x)[time_axis:]
    for axis in axes:
        assert found.diff(dim=axis).square().mean() < 0.2 * x.diff(dim=axis).square().mean()
    torch.testing.assert_close(found.mean(space(x)), x.mean(space(x)), rtol=0, atol=0.02)
    flat = torch.full(shape, 3.0)
    torch.testing.assert_close(disturb.blur(flat, time_axis), flat)


def test_blur__a_point_becomes_a_gaussian_of_that_width() -> None:
    x = torch.zeros(1, 1, 31, 31)
    x[0, 0, 15, 15] = 1
    found, place = disturb.blur(x)[0, 0], torch.arange(31.0) - 15
    assert (found.sum(1) * place.square()).sum().sqrt().item() == pytest.approx(disturb.BLUR_PIXELS, rel=0.01)
    torch.testing.assert_close(found, found.T)


def test_blur__a_clip_frame_by_frame() -> None:
    x = torch.zeros(1, 1, 5, 16, 16)
    x[:, :, 2] = crops((1, 1, 16, 16))
    found = disturb.blur(x, True)
    assert torch.equal(found[:, :, [0, 1, 3, 4]], torch.zeros(1, 1, 4, 16, 16))
    torch.testing.assert_close(found[:, :, 2], disturb.blur(x[:, :, 2]))
    assert disturb.blur(x, False)[:, :, 1].abs().max() > 0


@pytest.mark.parametrize("kind", SHAPES)
def test_contrast__keeps_the_mean_and_shrinks_the_spread(kind: str) -> None:
    x = crops(SHAPES[kind][0])
    found = disturb.contrast(x)
    torch.testing.assert_close(found.mean(space(x)), x.mean(space(x)))
    torch.testing.assert_close(found.std(space(x)), disturb.CONTRAST * x.std(space(x)))


def test_scanner__a_smooth_field_with_mean_one_that_black_does_not_feel() -> None:
    x = torch.ones(1, 1, 24, 32, 40)
    x[..., 0] = x[..., -1] = 0  # black
    found = disturb.scanner(x)
    assert torch.equal(found[..., 0], x[..., 0])
    field = found[..., 1:-1]
    assert 0.3 < field.min() < 0.8 < 1.2 < field.max() < 2
    assert all(field.diff(dim=axis).abs().max() < 0.1 for axis in (2, 3, 4))
    assert (field[..., :-1, :] > field[..., 1:, :]).all()
    assert disturb._field((24, 32, 40)).mean().item() == pytest.approx(1)


def test_scanner__grey_values_keep_their_order_at_every_place() -> None:
    dark, bright = 0.3 * torch.ones(1, 1, 16, 16), 0.6 * torch.ones(1, 1, 16, 16)
    for x in (dark, bright):
        x[..., 0, 0], x[..., 0, 1] = 0, 1
    ratio = (disturb.scanner(bright) / disturb.scanner(dark))[..., 1:, :]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 2**disturb.GAMMA))


def test_scanner__a_mirrored_image_alike_and_a_clip_without_flicker() -> None:
    x = crops((1, 3, 6, 16, 20))
    torch.testing.assert_close(disturb.scanner(x.flip(-1)), disturb.scanner(x).flip(-1))
    still = crops((1, 3, 1, 16, 20)).expand(1, 3, 6, 16, 20)
    found = disturb.scanner(still, True)
    torch.testing.assert_close(found, found[:, :, :1].expand_as(found))


def test_disturbed__the_model_sees_the_disturbed_crops_in_full_precision() -> None:
    model = nn.Identity()
    model.register_parameter("weight", nn.Parameter(torch.ones(1)))
    x = crops((2, 3, 6, 32, 36))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = disturb.Disturbed(model, "blur", time_axis=True)(x)
    assert torch.equal(found, disturb.blur(x, True)) and found.dtype == torch.float32
    assert len(list(disturb.Disturbed(model, "noise").parameters())) == 1
