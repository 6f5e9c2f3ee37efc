"""Whole-subject inference, clean-up and judgement on a small head with one lesion."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from domains.medical.entries import open_entry, open_label
from domains.medical.heads import HEADS, segmentation
from domains.medical.recipes import RECIPES
from ssl_models.protocols import Batch
from tests.lesion_entries import contract_for, write_entries


class Threshold(nn.Module):
    """Logits that grow with the (middle) input channel: a model whose answer is known."""

    def __init__(self, window):
        super().__init__()
        self.window, self.unused = window, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        assert x.shape[2:] == self.window
        middle = x[:, x.shape[1] // 2, None]
        return torch.cat([torch.zeros_like(middle), 4 * (middle - 1.5)], 1)


@pytest.mark.parametrize(
    ("kind", "crop"), [("2d", (64, 64)), ("2d", (32, 48)), ("3d", (8, 32, 32)), ("3d", (16, 64, 64))]
)
def test_predict__same_answer_whatever_the_window(tmp_path, kind, crop):
    contract = contract_for(kind, crop)
    entry, label = write_entries(tmp_path, contract)
    probabilities = segmentation.predict(Threshold(crop), entry, contract)
    image = open_entry(entry).read()[0]
    assert probabilities.shape == (2, 8, 64, 64) and probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(0), 1, atol=1e-5)
    assert np.allclose(probabilities[1], 1 / (1 + np.exp(-4 * (image - 1.5))), atol=2e-3)
    assert segmentation.score(probabilities, entry, label)[0]["dice"] > 0.8


def test_predict__leaves_the_training_mode_alone(tmp_path):
    contract = contract_for("2d", (64, 64))
    entry, _ = write_entries(tmp_path, contract)
    model = Threshold((64, 64)).train()
    segmentation.predict(model, entry, contract)
    assert model.training


def test_predict__mirrors(tmp_path):
    """A model that marks the left half of what it sees gives one half everywhere after the mirror's mean."""

    class LeftHalf(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            ramp = torch.where(torch.arange(x.shape[-1]) < x.shape[-1] // 2, 20.0, -20.0).expand(
                len(x), 1, *x.shape[2:]
            )
            return torch.cat([torch.zeros_like(ramp), ramp], 1)

    contract = contract_for("2d", (64, 64))
    entry, _ = write_entries(tmp_path, contract)
    assert np.allclose(segmentation.predict(LeftHalf(), entry, contract), 0.5, atol=1e-3)


def boxes(*sizes):
    """Prediction (2, 1, 16, 64) with separate blobs of the given numbers of voxels."""
    mask = np.zeros((1, 16, 64), np.float32)
    for column, size in enumerate(sizes):
        block = np.zeros(32, np.float32)
        block[:size] = 1
        mask[0, :, 4 * column : 4 * column + 2] = block.reshape(16, 2)
    return np.stack([1 - mask, mask])


def test_clean_up__drops_specks():
    def count(mask):
        return int((mask > 0).sum())

    assert count(segmentation.clean_up(boxes(30, 9), None)) == 30  # below ten voxels
    assert count(segmentation.clean_up(boxes(30, 12), None)) == 42
    assert count(segmentation.clean_up(boxes(30, 12), (1.0, 2.0, 2.0))) == 30  # 48 mm3 are below 50
    assert count(segmentation.clean_up(boxes(5), None)) == 0
    assert count(segmentation.clean_up(boxes(), None)) == 0


def test_clean_up__share_of_the_largest():
    mask = np.zeros((1, 40, 40), np.float32)
    mask[0, :20, :20] = 1  # 400
    mask[0, 30:33, 30:40] = 1  # 30: below a quarter
    assert segmentation.clean_up(np.stack([1 - mask, mask]), None).sum() == 400


def one_hot(label, classes):
    return np.stack([label == k for k in range(classes)]).astype(np.float32)


@pytest.mark.parametrize("spacing_known", [True, False])
def test_score__units_follow_the_spacing(tmp_path, spacing_known):
    contract = contract_for("2d", (64, 64))
    entry, label = write_entries(tmp_path, contract, spacing_known=spacing_known)
    truth = open_label(label).native
    deeper = np.roll(truth, 1, axis=0)
    figures, details = segmentation.score(one_hot(deeper, 2), entry, label)
    assert figures["hd95"] == pytest.approx(5.0 if spacing_known else 1.0)
    assert details["unit"] == ("mm" if spacing_known else "voxel")
    assert ("volume_ml" in figures) == spacing_known and ("volume_voxels" in figures) != spacing_known
    if spacing_known:
        assert figures["volume_ml"] == pytest.approx(truth.sum() * 20 / 1000)
    assert figures["lesion_sensitivity"] == 1 and figures["false_positives"] == 0


def test_score__nothing_predicted(tmp_path):
    contract = contract_for("2d", (64, 64))
    entry, label = write_entries(tmp_path, contract)
    figures, details = HEADS["tumor"].score(one_hot(np.zeros((8, 64, 64)), 2), entry, label)
    assert figures["dice"] == 0 and figures["lesion_sensitivity"] == 0 and math.isnan(figures["hd95"])
    pooled = HEADS["tumor"].pool([details])
    assert pooled["froc"] == pooled["box_map"] == 0 and pooled["slice_auroc"] == 0.5


def test_tumor__finds_the_lesion_its_box_and_its_slices(tmp_path):
    """Its 867 voxels have 17 ml, a ball of 32 mm; where nothing is known in mm, so few voxels are small."""
    contract = contract_for("2d", (64, 64))
    for known, small in ((True, False), (False, True)):
        (tmp_path / str(known)).mkdir()
        entry, label = write_entries(tmp_path / str(known), contract, spacing_known=known)
        truth = open_label(label).native
        figures, details = HEADS["tumor"].score(one_hot(truth, 2), entry, label)
        assert math.isnan(figures["small_lesion_sensitivity"]) == (not small)
        assert details["lesions"] == [{"small": small, "score": 1.0}]
        pooled, summary = HEADS["tumor"].pool([details]), HEADS["tumor"].summarise([details])
        assert pooled["froc"] == pooled["box_map"] == pooled["slice_auroc"] == 1
        assert ("10 mm across" in summary["notes"][1]) == known and ("2000 voxels" in summary["notes"][1]) != known


def test_score__several_classes(tmp_path):
    contract = contract_for("3d", (8, 64, 64), num_classes=3)
    entry, label = write_entries(tmp_path, contract)
    truth = open_label(label).native
    swapped = np.where(truth == 0, 0, 3 - truth)
    assert segmentation.score(one_hot(truth, 3), entry, label)[0]["dice_2"] == 1
    figures = segmentation.score(one_hot(swapped, 3), entry, label)[0]
    assert figures["dice"] == figures["dice_1"] == figures["dice_2"] == 0


def test_mean_dice__is_the_dice_of_score(tmp_path):
    entry, label = write_entries(tmp_path, contract_for("3d", (8, 64, 64), num_classes=3))
    draw = np.random.default_rng(0)
    for _ in range(3):
        prediction = draw.random((3, *open_label(label).native.shape)).astype(np.float32)
        prediction[0] += 0.3
        expected = segmentation.score(prediction, entry, label)[0]["dice"]
        assert segmentation.mean_dice(prediction, entry, label) == pytest.approx(expected)


def test_loss__learns_the_targets():
    targets = torch.zeros(2, 1, 8, 8, dtype=torch.int64)
    targets[..., 2:5] = 1
    batch = Batch(crops=torch.zeros(2, 1, 1, 8, 8), sample_seed=torch.zeros(2), group_id=("a", "b"), targets=targets)
    right = torch.cat([1 - 2.0 * targets, 2.0 * targets - 1], 1) * 10
    assert segmentation.loss(right, batch) < 0.01 < 1 < segmentation.loss(-right, batch)


@pytest.mark.parametrize("head", [head for head in HEADS.values() if head.dense], ids=lambda head: head.name)
def test_heads__one_case_from_end_to_end(tmp_path, head):
    classes = 3 if head.name == "hippocampus" else 2
    contract = contract_for("3d", (8, 64, 64), num_classes=classes)
    entry, label = write_entries(tmp_path, contract)
    prediction = head.trivial(entry, contract)
    assert prediction.shape == (classes, 8, 64, 64) and np.allclose(prediction.sum(0), 1)
    figures, _ = head.score(prediction, entry, label)
    assert 0 < figures[head.primary_metric] <= 1
    assert head.picture(entry, prediction, label).startswith(b"\x89PNG")


def test_named__figures_and_picture_say_the_names_of_the_recipe(tmp_path):
    recipe = RECIPES["brain_tumor"].changed({"data.label_classes": "[part_2, edema]"})
    entry, label = write_entries(tmp_path, contract_for("3d", (8, 64, 64), num_classes=3))
    truth = open_label(label).native
    predicted = one_hot(np.where(truth == 2, 0, truth), 3)
    head = HEADS["tumor"].named(HEADS["tumor"], recipe)
    figures, _ = head.score(predicted, entry, label)
    assert (figures["dice_part_2"], figures["dice_edema"]) == (1, 0)
    assert (figures["lesion_sensitivity_part_2"], figures["lesion_sensitivity_edema"]) == (1, 0)
    assert figures["volume_ml_part_2"] == pytest.approx((truth == 1).sum() * 20 / 1000) == figures["volume_ml"]
    assert figures["dice"] == 0.5 and not any(key.endswith("_1") for key in figures)
    assert head.picture(entry, predicted, label) != HEADS["tumor"].picture(entry, predicted, label)
    assert HEADS["tumor"].named(HEADS["tumor"], RECIPES["brain_tumor"]) is HEADS["tumor"]  # one class needs no name
