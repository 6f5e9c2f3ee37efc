"""Every objective by name, on every encoder, in two and three axes, unasked."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ssl_models import encoders, objectives
from ssl_models.protocols import Batch, Geometry

WITHOUT_DRAWS = {
    "autoencoder", "byol", "frame_prediction", "moco", "motion_prediction", "proposals", "simclr", "temporal_contrast",
}  # fmt: skip
"""Objectives whose inputs and targets come with the batch, follow from its frames, or that compare its crops."""
GEOMETRIES = {
    "2d": Geometry((16, 16), ((1, 1), (2, 2), (2, 2)), (8, 8)),
    "3d": Geometry((4, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (2, 8, 8)),
}
GEOMETRIES["clip"] = Geometry((4, 16, 16), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (2, 8, 8), time_axis=True)
CASES = [
    (name, encoder, axes)
    for name in objectives.names() for encoder in encoders.NAMES for axes in GEOMETRIES
    if encoders.takes(encoder, GEOMETRIES[axes]) and (axes == "clip" or not objectives.needs(name).time)
]  # fmt: skip


RECORDED = {
    "seconds": torch.arange(4).double() / 10 + torch.tensor([0.0, 0.5]).view(1, 2, 1).expand(2, 2, 1),
    "actions": torch.randn(2, 2, 4, 2, generator=torch.Generator().manual_seed(3)),
}
"""Two clips half a second apart of each of two drives."""


def painter(crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, seed: Tensor) -> tuple[Tensor, Tensor]:
    """Brightens a box whose corner comes from the seed."""
    label = torch.zeros_like(crops[:, :1], dtype=torch.int64)
    for b, corner in enumerate((seed % 5).tolist()):
        label[b, ..., corner : corner + 6, corner : corner + 6] = 1
    return crops + 2 * label, label


def objective_of(name: str, encoder: str, axes: str) -> nn.Module:
    torch.manual_seed(0)
    network = encoders.build(encoder, size="tiny", in_channels=2, geometry=GEOMETRIES[axes])
    return objectives.build(name, network, settings={}, painter=painter, actions=2)


def batch_of(axes: str, seed: int = 0) -> Batch:
    """Two smooth crops of each of two subjects, so that there is something to fill in."""
    size = GEOMETRIES[axes].crop_shape
    noise = torch.randn(2, 2, 2, *(4 for _ in size), generator=torch.Generator().manual_seed(seed))
    mode = "bilinear" if len(size) == 2 else "trilinear"
    crops = nn.functional.interpolate(noise.flatten(0, 1), size, mode=mode).unflatten(0, (2, 2))
    return Batch(
        crops=crops,
        sample_seed=torch.tensor([11, 12]) + seed,
        group_id=("a", "b"),
        spacing_mm=torch.ones(2, len(size)),
        foreground=torch.ones(2, 2, 1, *size, dtype=torch.bool),
        proposals=(crops[:, :, :1] > 0.3).long(),
        **(RECORDED if axes == "clip" else {}),
    )


@pytest.mark.parametrize(("name", "encoder", "axes"), CASES)
def test_objective__finite_loss_and_gradient_reaches_the_encoder(name: str, encoder: str, axes: str) -> None:
    objective, batch = objective_of(name, encoder, axes), batch_of(axes)
    losses = objective(batch)
    assert losses.total.shape == () and math.isfinite(losses.total.item())
    assert losses.embedding is not None and losses.embedding.shape[0] == 2 and losses.embedding.ndim == 2
    assert not losses.embedding.requires_grad
    assert all(part.ndim == 0 and not part.requires_grad for part in losses.parts.values())
    losses.total.backward()
    reached = [p.grad is not None and p.grad.abs().max() > 0 for p in objective.encoder.parameters()]
    assert sum(reached) >= len(reached) / 3


@pytest.mark.parametrize(("name", "encoder", "axes"), CASES)
def test_objective__same_seed_same_loss_whatever_the_global_generators(name: str, encoder: str, axes: str) -> None:
    objective, batch = objective_of(name, encoder, axes), batch_of(axes)
    first = objective(batch).total
    torch.manual_seed(99)
    assert objective(batch).total == first
    if name not in WITHOUT_DRAWS:
        assert objective(replace(batch, sample_seed=batch.sample_seed + 1000)).total != first


@pytest.mark.parametrize(("name", "encoder", "axes"), CASES)
def test_objective__loss_falls_on_one_batch(name: str, encoder: str, axes: str) -> None:
    objective, batch = objective_of(name, encoder, axes), batch_of(axes)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=2e-3)
    values = []
    for _ in range(30 if encoder == "x3d" else 15):  # a channel at a time, it learns slowly
        loss = objective(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert sum(values[-3:]) / 3 < 0.8 * values[0], values


@pytest.mark.parametrize(("name", "encoder", "axes"), CASES)
def test_objective__examples_are_panels(name: str, encoder: str, axes: str) -> None:
    panels = objective_of(name, encoder, axes).examples(batch_of(axes))
    assert panels
    for panel in panels.values():
        assert panel.shape == (2, 1, *GEOMETRIES[axes].crop_shape)
        assert torch.isfinite(panel).all() and not panel.requires_grad


@pytest.mark.parametrize(("name", "encoder", "axes"), CASES)
def test_objective__bfloat16_autocast_gives_about_the_same_loss(name: str, encoder: str, axes: str) -> None:
    objective, batch = objective_of(name, encoder, axes), batch_of(axes)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(batch).total
    rounded.backward()
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(objective(batch).total.item(), rel=0.05)


@pytest.mark.parametrize("name", objectives.names())
def test_build__unknown_setting_has_a_hint(name: str) -> None:
    with pytest.raises(ValueError, match=f"objective {name} has no setting 'nonsense'"):
        objectives.build(name, nn.Identity(), settings={name: {"nonsense": 1}}, painter=painter)


def test_build__did_you_mean() -> None:
    with pytest.raises(ValueError, match="did you mean 'mask_ratio'"):
        objectives.build("mae", nn.Identity(), settings={"mae": {"mask_ration": 0.5}}, painter=None)
    with pytest.raises(ValueError, match="did you mean 'mae'"):
        objectives.build("mea", nn.Identity(), settings={}, painter=None)


def test_build__a_sum_is_weighted_and_shares_the_encoder() -> None:
    torch.manual_seed(0)
    network = encoders.build("resunet", size="tiny", in_channels=2, geometry=GEOMETRIES["2d"])
    both = objectives.build("mae + 0.5 * anomaly_synthesis", network, settings={}, painter=painter)
    losses = both(batch_of("2d"))
    parts = losses.parts
    assert losses.total.item() == pytest.approx((parts["mae"] + 0.5 * parts["anomaly_synthesis"]).item())
    assert both.decoder is both.parts["anomaly_synthesis"].decoder
    assert all(part.encoder is network for part in both.parts.values())


@pytest.mark.parametrize(
    ("formula", "classes", "expected"),
    [("mae", 2, False), ("mae + anomaly_synthesis", 2, True), ("anomaly_synthesis", 3, False), ("proposals", 3, False)],
)
def test_gives_zero_label_model__only_with_a_decoder_for_as_many_classes(
    formula: str, classes: int, expected: bool
) -> None:
    assert objectives.gives_zero_label_model(formula, classes) is expected
