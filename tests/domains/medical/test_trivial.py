"""The competitor that has learned nothing finds a bright blob."""

import os
from pathlib import Path

import numpy as np
import pytest

from domains.medical import trivial
from domains.medical.entries import open_label
from domains.medical.heads import HEADS
from domains.medical.layout import scan
from domains.medical.plan import inspect, plan
from domains.medical.preprocess import read, read_label, write, write_label
from domains.medical.recipes import RECIPES
from domains.splits import TEST_BUCKETS, split_bucket
from tests.lesion_entries import contract_for, write_entries


def test_bright_blob__finds_the_lesion(tmp_path):
    contract = contract_for("2d", (64, 64))
    entry, label = write_entries(tmp_path, contract)
    mask = trivial.bright_blob(entry, contract)[1] > 0.5
    truth = open_label(label).native > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.5


def test_bright_blob__of_several_classes_it_is_the_first(tmp_path):
    (tmp_path / "two").mkdir(), (tmp_path / "three").mkdir()
    found = {}
    for name, classes in (("two", 2), ("three", 3)):
        contract = contract_for("2d", (64, 64), num_classes=classes)
        entry, _ = write_entries(tmp_path / name, contract)
        found[classes] = trivial.bright_blob(entry, contract)
    assert np.array_equal(found[3][:2], found[2]) and not found[3][2].any()


def test_halved_ellipsoid__anterior_first(tmp_path):
    contract = contract_for("3d", (8, 64, 64), num_classes=3)
    entry, _ = write_entries(tmp_path, contract)
    prediction = trivial.halved_ellipsoid(entry, contract)
    assert np.allclose(prediction.sum(0), 1)
    anterior, posterior = (np.argwhere(prediction[k])[:, 1].mean() for k in (1, 2))
    assert anterior > posterior  # H grows to the front


@pytest.mark.real_data
def test_bright_blob__real_tumours(tmp_path):
    """0.44 on all 76 patients by an independent count; every eighth development patient here."""
    root = Path(os.environ.get("SELFSIGHT_TEST_DATA", "../shared/data")) / "medical" / "brain_mri_lgg"
    if not root.is_dir():
        pytest.skip("the tumour set is not here: set SELFSIGHT_TEST_DATA")
    recipe = RECIPES["brain_tumor"]
    found = scan(root, recipe)
    development = [c for c in found.candidates if split_bucket(found.namespace, c.group) >= TEST_BUCKETS][::8]
    contract = plan([inspect(c) for c in development], recipe)
    dice = []
    for number, candidate in enumerate(development):
        entry, label = tmp_path / f"{number}", tmp_path / f"{number}-label"
        entry.mkdir(), label.mkdir()
        raw = read(candidate, recipe)
        write(raw, contract, entry)
        write_label(read_label(candidate, raw, contract), contract, label)
        dice.append(HEADS["tumor"].score(trivial.bright_blob(entry, contract), entry, label)[0]["dice"])
    assert 0.3 < np.mean(dice) < 0.6
