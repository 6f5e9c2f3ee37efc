"""The encoders of clips: shapes, strides, what a feature sees of time, norms, layout and their refusals."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from domains.recipe import Recipe
from ssl_models import encoders
from ssl_models.encoders.video_cnn import SlowEncoder, X3DEncoder, clip_norm
from ssl_models.protocols import Encoder, Geometry

POOLING = {
    "planes": ((1, 1, 1), (1, 2, 2), (1, 2, 2)),
    "frames": ((1, 1, 1), (2, 1, 1), (2, 2, 2)),
    "both": ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2)),
}
KINDS = {"slow": SlowEncoder, "x3d": X3DEncoder}
CASES = [(kind, case) for kind in KINDS for case in POOLING]
CLIP = Geometry((4, 16, 16), POOLING["both"], (2, 8, 8), time_axis=True)


def encoder_of(kind: str, case: str, blocks: int = 1) -> Any:
    torch.manual_seed(0)
    pooling = POOLING[case]
    return KINDS[kind](in_channels=2, widths=(16, 32, 64, 64)[: len(pooling)], pooling=pooling, blocks=blocks)


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_forward__maps_have_the_promised_widths_and_strides(kind: str, case: str) -> None:
    encoder, x = encoder_of(kind, case), torch.randn(2, 2, 8, 16, 24)
    assert isinstance(encoder, Encoder)
    assert (encoder.in_channels, encoder.spatial_axes, set(encoder.strides[0])) == (2, 3, {1})
    assert encoder.strides[-1] == tuple(torch.tensor(POOLING[case]).prod(0).tolist())
    features = encoder(x)
    assert len(features) == len(encoder.widths)
    for feature, width, stride in zip(features, encoder.widths, encoder.strides, strict=True):
        assert feature.shape == (2, width, *(n // s for n, s in zip(x.shape[2:], stride, strict=True)))


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_forward__gradient_reaches_every_parameter_and_samples_do_not_mix(kind: str, case: str) -> None:
    encoder, x = encoder_of(kind, case, blocks=2), torch.randn(2, 2, 8, 16, 16)
    torch.testing.assert_close(encoder(x)[-1][:1], encoder(x[:1])[-1])
    sum((feature * torch.randn_like(feature)).mean() for feature in encoder(x)).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def frames_seen(encoder: nn.Module, level: int, frame: int) -> list[int]:
    """Frames of the input that reach one frame of a feature map, the norms (which see all of them) left out."""
    for module in list(encoder.modules()):
        for child, layer in module.named_children():
            if isinstance(layer, nn.GroupNorm) or type(layer).__name__ == "SqueezeExcitation":
                setattr(module, child, nn.Identity())
    x = torch.randn(1, 2, 8, 8, 8, requires_grad=True)
    encoder(x)[level][:, :, frame].sum().backward()
    assert x.grad is not None
    return torch.nonzero(x.grad.abs().sum((0, 1, 3, 4))).flatten().tolist()


def test_forward__slow_looks_along_time_only_in_its_coarser_half_and_where_frames_are_halved() -> None:
    assert frames_seen(encoder_of("slow", "both"), 1, 4) == [4]
    assert frames_seen(encoder_of("slow", "both"), 2, 2) == [3, 4, 5]
    assert frames_seen(encoder_of("slow", "frames"), 1, 2) == [3, 4, 5]


def test_forward__x3d_looks_along_time_in_every_stage() -> None:
    assert frames_seen(encoder_of("x3d", "planes"), 0, 4) == [2, 3, 4, 5, 6]
    assert frames_seen(encoder_of("x3d", "planes"), 1, 4) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", KINDS)
def test_init__no_norm_of_a_batch_and_no_state_but_weights(kind: str) -> None:
    encoder = encoder_of(kind, "both", blocks=2)
    assert not [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not list(encoder.buffers())
    norms = [m for m in encoder.modules() if isinstance(m, nn.GroupNorm)]
    assert norms and {m.num_channels // m.num_groups for m in norms} == {16}
    assert clip_norm(num_features=72).num_groups == 1


@pytest.mark.parametrize("kind", KINDS)
def test_forward__channels_last_stays_channels_last_under_autocast(kind: str) -> None:
    encoder = encoder_of(kind, "both").to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(torch.randn(2, 2, 4, 16, 16).to(memory_format=torch.channels_last_3d))
    assert all(feature.is_contiguous(memory_format=torch.channels_last_3d) for feature in features)


@pytest.mark.parametrize("kind", KINDS)
def test_forward__indivisible_size_and_wrong_stages_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"\(4, 16, 18\) is not divisible by .* coarsest stride \(2, 8, 8\)"):
        encoder_of(kind, "both")(torch.zeros(1, 2, 4, 16, 18))
    with pytest.raises(ValueError, match=r"2 widths .* but 1 poolings"):
        KINDS[kind](in_channels=1, widths=(16, 32), pooling=((1, 1, 1),), blocks=1)


@pytest.mark.parametrize("kind", KINDS)
def test_build__clips_only(kind: str) -> None:
    volume = Geometry(CLIP.crop_shape, CLIP.pooling, CLIP.patch_shape)
    image = Geometry((16, 16), ((1, 1), (2, 2)), (8, 8))
    assert encoders.takes(kind, CLIP) and not encoders.takes(kind, volume) and not encoders.takes(kind, image)
    assert encoders.build(kind, size="tiny", in_channels=1, geometry=CLIP).strides[-1] == (2, 8, 8)
    with pytest.raises(ValueError, match=rf"the encoder {kind} needs clips .* encoders that fit: resunet, vit"):
        encoders.build(kind, size="tiny", in_channels=1, geometry=volume)


def test_names__are_those_a_recipe_may_ask_for() -> None:
    assert get_args(Recipe.model_fields["encoder"].annotation) == encoders.NAMES


@pytest.mark.slow
def test_import__silent_and_only_when_asked_for() -> None:
    code = """
import sys
from ssl_models import encoders
from ssl_models.protocols import Geometry
clip = Geometry((4, 16, 16), ((1, 1, 1), (1, 2, 2)), (2, 8, 8), time_axis=True)
encoders.build("resunet", size="tiny", in_channels=1, geometry=clip)
assert "pytorchvideo" not in sys.modules
encoders.build("x3d", size="tiny", in_channels=1, geometry=clip)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "FutureWarning" not in done.stderr
