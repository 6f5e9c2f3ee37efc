"""Painted lesions: of a size in mm, inside the head, from the seed alone, marked where they are."""

import pytest
import torch

from domains.medical import paint
from domains.medical.recipes import RECIPES
from tests.lesion_entries import contract_for


def heads(shape, batch=24, channels=3):
    """Noisy discs (cylinders) in air: crops, foreground, spacing, seeds."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(-1.1, 1.1, n) for n in shape], indexing="ij")
    inside = (axes[-1] ** 2 + axes[-2] ** 2 < 1).expand(batch, 1, *shape)
    crops = torch.where(inside, 0.5 * torch.randn(batch, channels, *shape, generator=generator), torch.tensor(-3.0))
    return crops, torch.full((batch, len(shape)), 2.0), inside, torch.arange(batch) * 977


@pytest.mark.parametrize(("shape", "neighbours"), [((64, 64), 1), ((16, 48, 48), 0)])
def test_painter__paints_inside_the_head(shape, neighbours):
    crops, spacing, inside, seeds = heads(shape, channels=2 * neighbours + 1)
    painted, label = paint.LesionPainter(neighbours)(crops, spacing, inside, seeds)
    assert painted.shape == crops.shape and label.shape == inside.shape and label.dtype == torch.int64
    assert torch.isfinite(painted).all() and set(label.unique().tolist()) == {0, 1}
    assert not (label.bool() & ~inside).any()
    assert torch.equal(painted[~inside.expand_as(crops)], crops[~inside.expand_as(crops)])
    clean = label.flatten(1).sum(1) == 0
    assert 0.1 < clean.float().mean() < 0.6
    change = (painted - crops)[:, neighbours].abs()
    assert change[label[:, 0] == 1].mean() > 5 * change[label[:, 0] == 0].mean()


def test_painter__patch_of_the_paired_row_and_of_no_other(monkeypatch):
    monkeypatch.setattr(paint, "DONOR_CHANCE", 1.0)
    crops, spacing, inside, seeds = heads((48, 48), batch=6)
    painter = paint.LesionPainter(1)
    painted, label = painter(crops, spacing, inside, seeds)
    other = crops.clone()
    other[1] += torch.linspace(-1, 1, 48)
    changed = [
        not torch.allclose(a, b, atol=1e-5)
        for a, b in zip(painter(other, spacing, inside, seeds)[0], painted, strict=True)
    ]
    assert changed == [bool(label[0].any()), True, False, False, False, False]


def test_painter__row_depends_on_its_seed_alone(monkeypatch):
    monkeypatch.setattr(paint, "DONOR_CHANCE", 0.0)
    crops, spacing, inside, seeds = heads((48, 48), batch=6)
    painter = paint.LesionPainter(1)
    painted, label = painter(crops, spacing, inside, seeds)
    order = torch.tensor([4, 1, 5])
    again, label_again = painter(crops[order], spacing[order], inside[order], seeds[order])
    assert torch.allclose(painted[order], again, atol=1e-5) and torch.equal(label[order], label_again)


def test_painter__does_not_touch_its_input_and_works_without_facts():
    crops, _, _, seeds = heads((32, 32), batch=4, channels=1)
    before = crops.clone()
    painted, _ = paint.LesionPainter()(crops, None, None, seeds)
    assert torch.equal(crops, before) and painted.shape == crops.shape


def test_painter__size_is_in_mm(monkeypatch):
    """The same lesion covers four times the pixels where these are half as long."""
    monkeypatch.setattr(paint, "RADIUS_MM", (9.0, 10.0))
    monkeypatch.setattr(paint, "RADIUS_SHARE", 1.0)
    crops, spacing, inside, seeds = heads((128, 128), batch=40, channels=1)
    coarse, fine = (
        paint.LesionPainter()(crops, spacing * factor, inside, seeds)[1].flatten(1).sum(1).float()
        for factor in (1, 0.5)
    )
    both = (coarse > 0) & (fine > 0)
    assert 3 < (fine[both].mean() / coarse[both].mean()) < 5


def test_painter__neighbours_are_coherent_and_smaller():
    crops, spacing, inside, seeds = heads((64, 64))
    flat = torch.where(inside, torch.zeros_like(crops), crops)
    painted, label = paint.LesionPainter(1)(flat, spacing, inside, seeds)
    change = (painted - flat).abs().flatten(2).sum(2)
    some = label.flatten(1).sum(1) > 20
    assert (change[some, 0] < change[some, 1]).all() and torch.allclose(change[:, 0], change[:, 2])
    assert (change[some, 0] > 0.1 * change[some, 1]).all()


def test_make_painter__follows_the_contract():
    recipe = RECIPES["brain_tumor"]
    assert paint.make_painter(contract_for("2d", (64, 64)), recipe) == paint.LesionPainter(1)
    assert paint.make_painter(contract_for("3d", (8, 64, 64)), recipe) == paint.LesionPainter(0)
