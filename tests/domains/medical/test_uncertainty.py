"""Entropy of a mask against its closed form."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from domains.medical.uncertainty import case_uncertainty, entropy, how_telling


def test_entropy__closed_form():
    shares = np.array([[0.5, 1.0, 0.9], [0.5, 0.0, 0.1]], np.float32)
    assert entropy(shares) == pytest.approx([1.0, 0.0, -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))], abs=1e-5)
    assert entropy(np.full((3, 2), 1 / 3)) == pytest.approx([1.0, 1.0])


def test_case_uncertainty__inside_the_mask_or_the_highest():
    shares = np.array([[0.2, 0.5, 0.9], [0.8, 0.5, 0.1]])
    assert case_uncertainty(shares, np.array([1, 0, 0])) == pytest.approx(float(entropy(shares)[0]), abs=1e-6)
    assert case_uncertainty(shares, np.zeros(3)) == pytest.approx(1.0)


def test_how_telling__as_scipy_and_thirds_by_hand():
    dice = [0.9, 0.8, 0.85, 0.5, 0.2, 0.6, 0.1]
    unsure = [0.1, 0.2, 0.1, 0.4, 0.6, 0.3, 0.5]
    found = how_telling([{"dice": d, "uncertainty": u} for d, u in zip(dice, unsure, strict=True)])
    assert found["uncertainty_dice_rank_correlation"] == pytest.approx(spearmanr(unsure, dice).statistic)
    assert found["dice_most_certain_third"] == pytest.approx(np.mean([0.9, 0.85, 0.8]))
    assert found["dice_least_certain_third"] == pytest.approx(np.mean([0.1, 0.2]))


@pytest.mark.parametrize("unsure", [[0.1] * 7, [0.1, 0.2, 0.3]])
def test_how_telling__nothing_to_tell_from(unsure):
    found = how_telling([{"dice": 0.1 * n, "uncertainty": u} for n, u in enumerate(unsure)])
    assert set(found.values()) == {None}
