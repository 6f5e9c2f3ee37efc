"""Crops: the same seed cuts the same place, whatever else is in the batch."""

import shutil

import numpy as np
import pytest
import torch

from domains.domain import Candidate
from domains.manifest import Subject
from domains.medical.datasets import crops
from domains.medical.entries import open_entry, open_label
from domains.medical.generate import generate
from domains.medical.layout import scan
from domains.medical.plan import inspect, plan
from domains.medical.preprocess import read, read_label, write, write_label
from domains.medical.recipes import RECIPES

SEEDS = [11, 2**61 + 5, 17, 23]


@pytest.fixture(scope="module", params=["2d", "3d"])
def stored(request, tmp_path_factory):
    """Recipe, contract, subjects and the entries of two generated patients."""
    folder = tmp_path_factory.mktemp(request.param)
    generate(folder / "source", 2, seed=4)
    recipe = RECIPES["brain_tumor"].changed({"data.plan": request.param, "data.max_crop": "64"})
    candidates = scan(folder / "source", recipe).candidates
    contract = plan([inspect(c) for c in candidates], recipe)
    entries, labels, subjects = [], [], []
    for c in candidates:
        images, masks = folder / f"{c.name}-image", folder / f"{c.name}-label"
        images.mkdir(), masks.mkdir()
        raw = read(c, recipe)
        facts = write(raw, contract, images)
        write_label(read_label(c, raw, contract), contract, masks)
        entries.append(images), labels.append(masks)
        subjects.append(
            Subject(subject_id=c.name, group_id=c.group, split_bucket=0, entry="", content_digest="", facts=facts)
        )
    return recipe, contract, subjects, entries, labels


def source(stored, labelled=True, augment=False, **changes):
    recipe, contract, subjects, entries, labels = stored
    recipe = recipe.changed({f"data.{k}": str(v) for k, v in changes.items()})
    return crops(entries, labels if labelled else None, subjects, contract, recipe, augment)


def test_batch__shapes_and_kinds(stored):
    contract = stored[1]
    size = contract.crop_shape
    batch = source(stored).batch([0, 1, 0, 1], SEEDS)
    assert batch.crops.shape == (4, 1, contract.in_channels, *size) and batch.crops.dtype == torch.float32
    assert batch.foreground.shape == (4, 1, 1, *size) and batch.foreground.dtype == torch.bool
    assert batch.targets.shape == (4, 1, *size) and batch.targets.dtype == torch.int64
    assert batch.spacing_mm.shape == (4, len(size)) and batch.sample_seed.tolist() == SEEDS
    assert batch.group_id == ("case_000", "case_001", "case_000", "case_001")
    assert source(stored, labelled=False).batch([0], [1]).targets is None


@pytest.mark.parametrize("augment", [False, True])
def test_batch__depends_on_the_seed_alone(stored, augment):
    one = source(stored, augment=augment).batch([0, 1, 0, 1], SEEDS)
    order = [2, 0, 3, 1]
    other = source(stored, augment=augment).batch([[0, 1, 0, 1][i] for i in order], [SEEDS[i] for i in order])
    for name in ("crops", "targets", "foreground"):
        assert torch.equal(getattr(one, name)[order], getattr(other, name)), name
    assert not torch.equal(one.crops[0], one.crops[2])


def test_batch__equals_the_slice_of_the_whole_array(stored):
    _, contract, _, entries, labels = stored
    cropper = source(stored)
    image, label = open_entry(entries[0]), open_label(labels[0])
    whole, classes, head = image.read(), label.read(), image.read_foreground()
    for seed in SEEDS:
        batch = cropper.batch([0], [seed])
        window = cropper.window(cropper._cuts[0], seed, seed)
        inside = tuple(slice(a, b) for a, b in window)
        if contract.rules["kind"] == "2d":
            z = window[0][0]
            rows = np.clip([z - 1, z, z + 1], 0, len(head) - 1)
            expected = whole[0][rows][(slice(None), *inside[1:])]
            assert np.array_equal(batch.targets[0, 0], classes[inside][0])
        elif window[0][0] >= 0 and window[0][1] <= len(head):
            expected = whole[(slice(None), *inside)]
            assert np.array_equal(batch.foreground[0, 0, 0], head[inside])
        else:
            continue
        assert np.array_equal(batch.crops[0, 0], expected)


def test_batch__label_crop_share(stored):
    labelled = [i for i, path in enumerate(stored[4]) if open_label(path).native.any()]
    assert labelled
    seeds = list(range(30))
    share = {
        wanted: (source(stored, label_crop_share=wanted).batch(labelled[:1] * 30, seeds).targets > 0).flatten(1).any(1)
        for wanted in (0.0, 1.0)
    }
    assert share[1.0].all() and not share[0.0].all()


def test_batch__crops_lie_in_the_head(stored):
    batch = source(stored, labelled=False).batch([0, 1] * 15, list(range(30)))
    assert batch.foreground.float().flatten(1).mean(1).min() > 0.1


def test_batch__volume_smaller_than_the_crop(make_nifti, ball, tmp_path):
    recipe = RECIPES["hippocampus"].changed({"data.plan": "auto"})
    candidate = Candidate("a", "a", {"image": make_nifti(ball)})
    contract = plan([{"shape": [48, 48, 48], "spacing_mm": [1, 1, 1], "axes": "SAR"}], recipe)
    facts = write(read(candidate, recipe), contract, tmp_path)
    subject = Subject(subject_id="a", group_id="a", split_bucket=0, entry="", content_digest="", facts=facts)
    batch = crops([tmp_path], None, [subject], contract, recipe, False).batch([0], [3])
    assert batch.crops.shape == (1, 1, 1, 48, 48, 48)
    assert batch.foreground.sum() == open_entry(tmp_path).read_foreground().sum()


@pytest.fixture(scope="module", params=["2d", "3d"])
def two_channels(request, tmp_path_factory):
    """Crops of a patient with FLAIR and T1 and of one with FLAIR alone; a function of `augment`."""
    folder = tmp_path_factory.mktemp("two")
    generate(folder / "source", 2, seed=4)
    shutil.copy(folder / "source/case_000/flair.nii.gz", folder / "source/case_000/t1.nii.gz")
    changes = {"data.plan": request.param, "data.max_crop": "32", "data.channels": "[flair, t1]"}
    recipe, entries, subjects = RECIPES["brain_tumor"].changed(changes), [], []
    candidates = scan(folder / "source", recipe).candidates
    contract = plan([inspect(c) for c in candidates], recipe)
    for c in candidates:
        entries.append(folder / c.name)
        entries[-1].mkdir()
        facts = write(read(c, recipe), contract, entries[-1])
        subjects.append(
            Subject(subject_id=c.name, group_id=c.group, split_bucket=0, entry="", content_digest="", facts=facts)
        )
    return lambda augment: crops(entries, None, subjects, contract, recipe, augment)


def test_batch__a_missing_channel_is_zero_and_told(two_channels):
    batch = two_channels(augment=False).batch([0, 1], SEEDS[:2], crops=2)
    each = batch.crops.shape[2] // 2
    assert batch.channels_present.tolist() == [[True] * 2 * each, [True] * each + [False] * each]
    assert batch.crops[0].flatten(2).any(2).all() and not batch.crops[1, :, each:].any()


def test_batch__augmentation_drops_whole_channels_but_not_the_first(two_channels):
    source = two_channels(augment=True)
    batch = source.batch([0] * 40 + [1] * 2, list(range(42)), crops=2)
    each = batch.crops.shape[2] // 2
    present = batch.channels_present
    assert present[:, :each].all() and not present[40:, each:].any()
    assert 0.05 < 1 - present[:40, -1].float().mean() < 0.4
    assert torch.equal(batch.crops.flatten(3).any(3), present[:, None].expand(-1, 2, -1))
    again = source.batch([0], [7], crops=2)
    assert torch.equal(again.crops[0], batch.crops[7]) and torch.equal(again.channels_present[0], present[7])


def test_batch__one_channel_says_nothing_of_channels(stored):
    assert source(stored, augment=True).batch([0], [1]).channels_present is None
