"""Inpainting: boxes and seams against brute force, the loss against NumPy, and what a probe gains."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import IMAGE as IMAGE_OF_LEARNING
from learning import probe_accuracies, stripes
from torch import Tensor, nn

from ssl_models.encoders import build
from ssl_models.objectives.inpainting import Inpainting, box_mask, seam, without
from ssl_models.protocols import Batch, Geometry

IMAGE = Geometry((16, 16), ((1, 1), (2, 2), (2, 2)), (4, 4))
CLIP = Geometry((4, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (2, 4, 4), time_axis=True)


def inpainting_of(encoder: str, geometry: Geometry = IMAGE, **settings: object) -> Inpainting:
    torch.manual_seed(0)
    return Inpainting(build(encoder, size="tiny", in_channels=2, geometry=geometry), **settings)


def batch_of(size: tuple[int, ...] = (16, 16), clip: bool = False) -> Batch:
    crops = torch.randn(3, 2, 2, *size, generator=torch.Generator().manual_seed(1))
    seconds = torch.arange(size[0]).double().expand(3, 2, -1) if clip else None
    return Batch(crops=crops, sample_seed=torch.tensor([5, 6, 7]), group_id=("a", "b", "c"), seconds=seconds)


class Fixed(nn.Module):
    """Paints a given picture."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture = picture

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.picture


def slow_seam(missing: np.ndarray, reach: tuple[int, ...]) -> np.ndarray:
    """Seen places with a missing one within `reach` along every axis, by looking at each."""
    near = np.zeros_like(missing)
    for place in np.ndindex(missing.shape):
        window = tuple(slice(max(0, p - r), p + r + 1) for p, r in zip(place, reach, strict=True))
        near[place] = missing[window].any() and not missing[place]
    return near


@pytest.mark.parametrize("boxes", [0, 3])
@pytest.mark.parametrize("present", [[True, True], [True, False]])
def test_loss__equals_a_slow_version(boxes: int, present: list[bool]) -> None:
    batch = replace(batch_of(), channels_present=torch.tensor([present] * 3))
    objective = inpainting_of("resunet", boxes=boxes)
    picture = torch.randn(6, 2, 16, 16)
    objective.paint = Fixed(picture)
    losses = objective(batch)
    missing = objective._missing(batch)[:, 0].numpy()
    crops, guess = batch.crops.flatten(0, 1).double().numpy(), picture.double().numpy()
    totals, insides = [], []
    for b in range(6):
        weight = missing[b] + 10.0 * slow_seam(missing[b], (1, 1))  # 7 of 128 pixels are 1 of 16
        error = ((guess[b] - crops[b]) ** 2)[present]
        totals.append((error * weight).sum() / (weight.sum() * sum(present)))
        insides.append(error[:, missing[b]].mean())
    assert losses.total.item() == pytest.approx(np.mean(totals), rel=1e-5)
    assert losses.parts["missing_mse"].item() == pytest.approx(np.mean(insides), rel=1e-5)


@pytest.mark.parametrize("encoder", ["resunet", "vit"])
def test_forward__what_is_missing_does_not_reach_the_encoder(encoder: str) -> None:
    objective, batch = inpainting_of(encoder), batch_of()
    missing = objective._missing(batch).unflatten(0, (3, 2))
    changed = replace(batch, crops=torch.where(missing, batch.crops + 50, batch.crops))
    assert torch.equal(objective(batch).embedding, objective(changed).embedding)
    seen = replace(batch, crops=torch.where(missing, batch.crops, batch.crops + 50))
    assert not torch.allclose(objective(batch).embedding, objective(seen).embedding)


def test_without__the_mean_of_what_is_visible() -> None:
    missing = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    missing[0, 0, 0, 0] = True
    crops = torch.tensor([[[[9.0, 1.0], [2.0, 3.0]], [[9.0, 0.0], [0.0, 6.0]]]])
    assert without(crops, missing).tolist() == [[[[2, 1], [2, 3]], [[2, 0], [0, 6]]]]


def test_box_mask__central_box_has_its_share() -> None:
    mask = box_mask(torch.tensor([1, 2]), (16, 32), missing=0.25, boxes=0, whole_axes=0)
    assert mask.shape == (2, 1, 16, 32) and mask.sum() == 2 * 8 * 16
    assert mask[:, 0, 4:12, 8:24].all()
    volume = box_mask(torch.tensor([1]), (32, 32, 32), missing=0.125, boxes=0, whole_axes=0)
    assert volume.sum() == 16**3 and volume[0, 0, 8:24, 8:24, 8:24].all()


def test_box_mask__random_boxes_reach_every_place_and_fit() -> None:
    seeds = torch.arange(2000)
    one = box_mask(seeds, (8, 12), missing=1 / 6, boxes=1, whole_axes=0)[:, 0]
    assert set(one.sum((1, 2)).tolist()) == {3 * 5}
    corners = {tuple(np.argwhere(mask)[0]) for mask in one[:500].numpy()}
    assert corners == set(np.ndindex(6, 8))
    four = box_mask(seeds, (32, 32), missing=0.25, boxes=4, whole_axes=0).float().mean((1, 2, 3))
    assert four.max() == 0.25 and 0.18 < four.mean() < 0.25  # they may overlap


@pytest.mark.parametrize("boxes", [0, 4])
def test_forward__a_recording_misses_the_same_boxes_in_every_frame(boxes: int) -> None:
    objective, batch = inpainting_of("resunet", CLIP, boxes=boxes), batch_of((4, 16, 16), clip=True)
    missing = objective._missing(batch)
    assert torch.equal(missing, missing[:, :, :1].expand_as(missing))
    assert 0.1 < missing.float().mean() <= 0.25
    around = seam(missing, batch.time_axis)
    assert torch.equal(around, around[:, :, :1].expand_as(around))
    volume = objective._missing(replace(batch, seconds=None))
    assert not torch.equal(volume, volume[:, :, :1].expand_as(volume))


@pytest.mark.parametrize("size", [(16, 40), (6, 16, 18)])
def test_seam__equals_brute_force(size: tuple[int, ...]) -> None:
    missing = box_mask(torch.tensor([3]), size, missing=0.2, boxes=2, whole_axes=0)
    reach = (1, 2) if len(size) == 2 else (1, 1, 1)
    assert np.array_equal(seam(missing, False)[0, 0].numpy(), slow_seam(missing[0, 0].numpy(), reach))


def test_examples__paint_only_what_is_missing() -> None:
    objective, batch = inpainting_of("vit"), batch_of()
    panels = objective.examples(batch)
    assert list(panels) == ["original", "seen", "painted"]
    missing = objective._missing(batch)[::2]
    assert torch.equal(panels["original"], batch.crops[:, 0, 1:])
    for name in ("seen", "painted"):
        assert torch.equal(panels[name][~missing], panels["original"][~missing])
        assert not torch.isclose(panels[name][missing], panels["original"][missing]).all()


def test_init__refuses_what_cannot_be() -> None:
    for wrong in ({"missing": 1.0}, {"missing": 0.0}, {"boxes": -1}):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            inpainting_of("resunet", **wrong)


def test_learning__a_probe_on_its_features_tells_the_direction_of_stripes_under_noise() -> None:
    before, after = probe_accuracies(
        "inpainting", stripes, IMAGE_OF_LEARNING, steps=90, batch_size=24, learning_rate=4e-3
    )
    assert after > before + 0.1, (before, after)  # gains of seeds 0 to 2: 0.32, 0.24, 0.15
