"""The masked autoencoder against a slow NumPy version, its masks and its panels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import IMAGE, probe_accuracies, stripes
from torch import Tensor, nn

from ssl_models.encoders import build
from ssl_models.objectives.mae import BlockFiller, MaskedAutoencoder
from ssl_models.protocols import Batch, Geometry
from ssl_models.tokens import Split, patchify, take

GEOMETRY = Geometry((16, 16), ((1, 1), (2, 2), (2, 2)), (4, 4))


def batch_of(channels: int = 2, crops: int = 1, size: tuple[int, ...] = (16, 16)) -> Batch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, crops, channels, *size, generator=generator)
    return Batch(crops=pixels, sample_seed=torch.tensor([5, 6, 7]), group_id=("a", "b", "c"))


def mae_of(encoder: str, channels: int = 2, geometry: Geometry = GEOMETRY, **settings: object) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(build(encoder, size="tiny", in_channels=channels, geometry=geometry), **settings)


class Fixed(nn.Module):
    """Predicts a given picture and remembers what was hidden."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture = picture

    def token_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (4, 4)

    def forward(self, encoder: nn.Module, crops: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        self.split = split
        return take(patchify(self.picture, (4, 4)), split.rest), torch.zeros(len(crops), 5)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("foreground_only", [False, True])
def test_loss__equals_the_published_formula(normalise: bool, foreground_only: bool) -> None:
    batch = batch_of()
    foreground = torch.zeros(3, 1, 1, 16, 16, dtype=torch.bool)
    foreground[..., 4:13, 2:9] = True
    batch = replace(batch, foreground=foreground)
    mae = mae_of("vit", normalise_targets=normalise, foreground_only=foreground_only)
    picture = torch.randn(3, 2, 16, 16)
    mae.filler = Fixed(picture)
    actual = mae(batch).total.item()

    crops, guess, split = batch.crops[:, 0].double().numpy(), picture.double().numpy(), mae.filler.split
    of_samples = []
    for b in range(3):
        errors = []
        for token in split.rest[b][split.is_target[b]].tolist():
            i, j = 4 * (token // 4), 4 * (token % 4)
            if foreground_only:
                assert foreground[b, 0, 0, i : i + 4, j : j + 4].any()
            patch = crops[b, :, i : i + 4, j : j + 4]
            if normalise:  # as the authors: torch's var, which divides by n - 1
                patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
            errors.append(((guess[b, :, i : i + 4, j : j + 4] - patch) ** 2).mean())
        assert len(errors) == (7 if foreground_only else 12)  # of 9 or 16 tokens, three quarters
        of_samples.append(np.mean(errors))
    assert actual == pytest.approx(np.mean(of_samples), rel=1e-5)


CLIP = Geometry((6, 16, 16), ((1, 1, 1), (1, 2, 2), (1, 2, 2)), (2, 4, 4), time_axis=True)
SECONDS = torch.arange(6).double().expand(3, 1, -1)


class FixedClip(Fixed):
    """Predicts a given clip in tokens of (2, 4, 4)."""

    def token_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (2, 4, 4)

    def forward(self, encoder: nn.Module, crops: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        self.split = split
        return take(patchify(self.picture, (2, 4, 4)), split.rest), torch.zeros(len(crops), 5)


@pytest.mark.parametrize("tube", [False, True])
@pytest.mark.parametrize("foreground_only", [False, True])
def test_loss__in_space_and_time_equals_a_slow_version(tube: bool, foreground_only: bool) -> None:
    batch = batch_of(size=(6, 16, 16))
    foreground = torch.zeros(3, 1, 1, 6, 16, 16, dtype=torch.bool)
    foreground[..., 2:4, 4:13, 2:9] = True  # 9 places of 16, in one of three token frames
    batch = replace(batch, foreground=foreground, seconds=SECONDS)
    settings = {"tube": tube, "normalise_targets": False, "foreground_only": foreground_only}
    mae = mae_of("vit", geometry=CLIP, **settings)
    clip = torch.randn(3, 2, 6, 16, 16)
    mae.filler = FixedClip(clip)
    actual = mae(batch).total.item()
    hidden = {(False, False): 36, (True, False): 3 * 12, (False, True): 7, (True, True): 3 * 7}[tube, foreground_only]
    of_samples = []
    for b in range(3):
        split, errors, frames_of = mae.filler.split, [], {}
        for token in split.rest[b][split.is_target[b]].tolist():
            t, i, j = 2 * (token // 16), 4 * (token % 16 // 4), 4 * (token % 4)
            place = (slice(None), slice(t, t + 2), slice(i, i + 4), slice(j, j + 4))
            errors.append(((clip[b].double()[place] - batch.crops[b, 0].double()[place]) ** 2).mean().item())
            frames_of.setdefault((i, j), []).append(t)
        assert len(errors) == hidden
        assert (set(map(tuple, frames_of.values())) == {(0, 2, 4)}) == tube
        of_samples.append(np.mean(errors))
    assert actual == pytest.approx(np.mean(of_samples), rel=1e-5)


@pytest.mark.parametrize("encoder", ["vit", "resunet"])
def test_tube__by_default_in_recordings_only(encoder: str) -> None:
    mae, volume = mae_of(encoder, geometry=CLIP), batch_of(size=(6, 16, 16))
    clip = replace(volume, seconds=SECONDS)

    def places_always_hidden(mae: MaskedAutoencoder, batch: Batch) -> bool:
        hidden = mae.examples(batch)["masked"] == 0
        assert hidden.float().mean() == 0.75
        return torch.equal(hidden, hidden[:, :, :1].expand_as(hidden))

    assert places_always_hidden(mae, clip) and not places_always_hidden(mae, volume)
    assert not places_always_hidden(mae_of(encoder, geometry=CLIP, tube=False), clip)
    assert places_always_hidden(mae_of(encoder, geometry=CLIP, tube=True), volume)
    still = replace(clip, crops=clip.crops[:, :, :, :1].expand_as(clip.crops))
    assert torch.isfinite(mae(still).total)


def test_tube__images_have_no_time() -> None:
    frames = replace(batch_of(), seconds=torch.zeros(3, 1, 1, dtype=torch.float64))
    assert not frames.time_axis
    assert torch.equal(mae_of("vit")(frames).total, mae_of("vit")(batch_of()).total)
    with pytest.raises(ValueError, match="tube is set, but images have no axis of time"):
        mae_of("vit", tube=True)


def test_loss__missing_channels_are_no_target() -> None:
    batch = batch_of()
    mae = mae_of("vit", normalise_targets=False)
    picture = batch.crops[:, 0].clone()
    picture[:, 1] += 3
    mae.filler = Fixed(picture)
    assert mae(batch).total.item() == pytest.approx(4.5, rel=1e-5)
    present = torch.tensor([[True, False]] * 3)
    assert mae(replace(batch, channels_present=present)).total.item() == 0


def test_loss__what_stands_in_for_a_missing_channel_does_not_matter() -> None:
    mae, batch = mae_of("vit"), batch_of()
    assert mae.normalise_targets
    everything = replace(batch, channels_present=torch.ones(3, 2, dtype=torch.bool))
    torch.testing.assert_close(mae(everything).total, mae(batch).total)
    batch = replace(batch, channels_present=torch.tensor([[True, False]] * 3))
    mae.filler = Fixed(torch.randn(3, 2, 16, 16))
    losses = [mae(replace(batch, crops=batch.crops * torch.tensor([1.0, s]).view(2, 1, 1))).total for s in (0.0, 9.0)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("encoder", ["vit", "resunet"])
def test_loss__hidden_voxels_do_not_reach_the_encoder(encoder: str) -> None:
    mae, batch = mae_of(encoder).eval(), batch_of()
    masked = mae.examples(batch)["masked"] == 0
    changed = replace(batch, crops=torch.where(masked.unsqueeze(1), batch.crops + 50, batch.crops))
    assert torch.equal(mae(batch).embedding, mae(changed).embedding)


@pytest.mark.parametrize("encoder", ["vit", "resunet"])
def test_loss__a_sample_does_not_depend_on_its_place(encoder: str) -> None:
    mae, batch = mae_of(encoder), batch_of(crops=2)
    swapped = replace(batch, crops=batch.crops.flip(0), sample_seed=batch.sample_seed.flip(0))
    torch.testing.assert_close(mae(swapped).embedding.flip(0), mae(batch).embedding)
    panels, others = mae.examples(batch), mae.examples(swapped)
    for name, panel in panels.items():
        torch.testing.assert_close(others[name].flip(0), panel)


@pytest.mark.parametrize("encoder", ["vit", "resunet"])
def test_examples__show_what_was_seen_and_the_middle_channel(encoder: str) -> None:
    mae, batch = mae_of(encoder, channels=3), batch_of(channels=3, crops=2)
    panels = mae.examples(batch)
    assert list(panels) == ["original", "masked", "reconstructed"]
    assert torch.equal(panels["original"], batch.crops[:, 0, 1:2])
    without = replace(batch, channels_present=torch.tensor([[True] * 3, [True, False, True], [True, False, False]]))
    assert torch.equal(mae.examples(without)["original"], batch.crops[:, 0, :1])  # the one that all have
    hidden = panels["masked"] == 0
    assert hidden.float().mean() == 0.75
    assert torch.equal(panels["reconstructed"][~hidden], panels["original"][~hidden])
    assert not torch.isclose(panels["reconstructed"][hidden], panels["original"][hidden]).all()


def test_examples__show_the_mask_of_the_loss() -> None:
    mae, batch = mae_of("vit"), batch_of(crops=2)
    shown = mae.examples(batch)["masked"][:, 0] == 0
    _, split = mae._split(batch)
    hidden = torch.zeros(6, 16, dtype=torch.bool).scatter(1, split.rest, True)[::2]
    assert torch.equal(patchify(shown.unsqueeze(1), (4, 4)).all(2), hidden)


def test_token_shape__blocks_follow_the_strides() -> None:
    pooling = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    encoder = build("resunet", size="tiny", in_channels=1, geometry=Geometry((16, 48, 48), pooling, (8, 8, 8)))
    filler = BlockFiller(encoder, 16)
    assert filler.token_shape((16, 48, 48)) == (8, 16, 16)
    assert filler.token_shape((16, 40, 48)) == (8, 10, 16)
    assert filler.token_shape((4, 16, 16)) == (2, 8, 8)
    assert BlockFiller(encoder, 4).token_shape((16, 48, 48)) == (2, 4, 4)


def test_init__and_forward_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="mask_ratio is 1"):
        mae_of("vit", mask_ratio=1.0)
    with pytest.raises(ValueError, match="the batch has no foreground"):
        mae_of("vit", foreground_only=True)(batch_of())


def test_learning__a_probe_on_its_features_tells_the_direction_of_stripes_under_noise() -> None:
    before, after = probe_accuracies("mae", stripes, IMAGE, steps=90, batch_size=24, learning_rate=4e-3)
    assert after > before + 0.3, (before, after)  # gains of seeds 0 and 1: 0.47, 0.52
