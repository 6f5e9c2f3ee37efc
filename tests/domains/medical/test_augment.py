"""Augmentation: seeds decide, labels follow the image, left stays mirrored to right only."""

import pytest
import torch

from domains.medical import augment


def blob_batch(shape, batch=3):
    """A bright box off centre on a dark ground, its label and the foreground."""
    targets = torch.zeros(batch, 1, *shape, dtype=torch.int64)
    targets[(slice(None), 0, *[slice(s // 4, s // 2) for s in shape])] = 1
    crops = targets.float().repeat(1, 3 if len(shape) == 2 else 1, *[1] * len(shape))
    return crops, targets, torch.ones_like(targets, dtype=torch.bool), torch.arange(7, 7 + batch)


@pytest.mark.parametrize("shape", [(48, 64), (16, 32, 32)])
def test_augment_crops__labels_follow_the_image(shape):
    crops, targets, foreground, seeds = blob_batch(shape)
    moved, labels, inside = augment.augment_crops(crops, targets, foreground, seeds, None)
    assert moved.shape == crops.shape and labels.dtype == torch.int64 and inside.dtype == torch.bool
    assert not torch.equal(moved, crops)
    for image, label in zip(moved, labels, strict=True):
        within, outside = image[0][label[0] == 1], image[0][label[0] == 0]
        assert within.numel() > 0 and within.median() > outside.median() + 0.3


def test_augment_crops__row_depends_on_its_seed_alone():
    crops, targets, foreground, seeds = blob_batch((32, 32))
    whole = augment.augment_crops(crops, targets, foreground, seeds, None)
    for row in range(3):
        alone = augment.augment_crops(
            crops[row : row + 1], targets[row : row + 1], foreground[row : row + 1], seeds[row : row + 1], None
        )
        for a, b in zip(whole, alone, strict=True):
            assert torch.allclose(a[row].float(), b[0].float(), atol=1e-5)
    assert not torch.equal(whole[0][0], whole[0][1])


def test_augment_crops__no_labels():
    crops, _, _, seeds = blob_batch((32, 32))
    moved, targets, foreground = augment.augment_crops(crops, None, None, seeds, None)
    assert targets is None and foreground is None and torch.isfinite(moved).all()


def neutral(monkeypatch, rotation_degrees=0.0):
    """No change of intensities, and no move but a rotation."""
    monkeypatch.setattr(augment, "CHANCE", 0.0)
    return augment.Moves(rotation_degrees, scale=(1.0, 1.0), shift=0.0)


@pytest.mark.parametrize("shape", [(8, 12), (6, 8, 12)])
def test_augment_crops__flip_is_left_right(monkeypatch, shape):
    moves, crops = neutral(monkeypatch), torch.randn(2, 1, *shape)
    for chance, expected in ((0.0, crops), (1.0, crops.flip(augment.LEFT_RIGHT_AXIS))):
        monkeypatch.setattr(augment, "FLIP_CHANCE", chance)
        moved, _, _ = augment.augment_crops(crops, None, None, torch.tensor([1, 2]), None, moves=moves)
        assert torch.allclose(moved, expected, atol=1e-4)


def test_augment_crops__thick_slices_are_turned_in_plane_only(monkeypatch):
    moves = neutral(monkeypatch, 30.0)
    crops = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 1, 8, 16, 16).contiguous()  # the slice number
    seed, thickness = torch.tensor([3]), ([6.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    thick, even = (
        augment.augment_crops(crops, None, None, seed, torch.tensor([mm]), moves=moves)[0] for mm in thickness
    )
    assert torch.allclose(thick, crops, atol=1e-4)
    assert not torch.allclose(even, crops, atol=0.1)


def test_augment_crops__rotation_keeps_a_circle_round_in_mm(monkeypatch):
    """Pixels of 1 x 2 mm: a disc in mm stays the same disc when turned."""
    moves, spacing = neutral(monkeypatch, 40.0), torch.tensor([[1.0, 2.0]])
    y, x = torch.meshgrid(torch.arange(64) - 31.5, (torch.arange(32) - 15.5) * 2, indexing="ij")
    disc = (y**2 + x**2 < 20**2).long()[None, None]
    _, moved, _ = augment.augment_crops(disc.float(), disc, None, torch.tensor([5]), spacing, moves=moves)
    assert (moved != disc).sum() < 0.06 * disc.sum()


def test_augment_crops__no_mirroring_of_sagittal_slices():
    crops = torch.linspace(-1, 1, 32).expand(64, 1, 32, 32).contiguous()
    seeds = torch.arange(64)
    slopes = [
        (augment.augment_crops(crops, None, None, seeds, None, mirror=mirror)[0].diff(dim=-1).mean((1, 2, 3)) < 0).sum()
        for mirror in (True, False)
    ]
    assert 16 < slopes[0] < 48 and slopes[1] == 0


def test_augment_crops__a_channel_changes_by_its_own_range():
    """Brightness is in standard deviations of the channel; a channel that is zero everywhere stays so."""
    seeds = torch.arange(40)
    small = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    crops = torch.cat([small, 100 * small, 0 * small], 1)
    moved = augment.augment_crops(crops, None, None, seeds, None, channels=3)[0]
    assert not moved[:, 6:].any()
    ratio = moved[:, 3:6].std((1, 2, 3)) / moved[:, :3].std((1, 2, 3))
    assert torch.allclose(ratio, torch.full_like(ratio, 100), rtol=0.02)
