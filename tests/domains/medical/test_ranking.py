"""AUROC, average precision and calibration against scikit-learn, counting, and closed forms."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from domains.medical.ranking import auroc, average_precision, calibration_error, reliability


@pytest.mark.parametrize("seed", range(6))
def test_auroc_and_average_precision__as_scikit_learn_with_ties(seed):
    rng = np.random.default_rng(seed)
    label = rng.random(60) < 0.3
    label[:2] = True, False
    probability = np.round(rng.random(60) + 0.3 * label, seed % 3)  # coarse rounding makes ties
    assert auroc(probability, label) == pytest.approx(roc_auc_score(label, probability))
    assert average_precision(probability, label) == pytest.approx(average_precision_score(label, probability))


def test_auroc__counted_pair_by_pair():
    probability, label = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    pairs = [(p > q) + 0.5 * (p == q) for p in probability[label] for q in probability[~label]]
    assert auroc(probability, label) == np.mean(pairs) == 0.875


def test_undefined_with_one_class():
    assert np.isnan(auroc(np.array([0.2, 0.3]), np.array([True, True])))
    assert np.isnan(average_precision(np.array([0.2, 0.3]), np.array([False, False])))
    assert np.isnan(calibration_error(np.array([]), np.array([], dtype=bool)))


def test_calibration_error__closed_forms():
    label = np.arange(100) < 70
    assert calibration_error(np.full(100, 0.7), label) == pytest.approx(0, abs=1e-12)
    assert calibration_error(np.full(100, 0.95), label) == pytest.approx(0.25)
    mixed = np.where(label, 1.0, 0.0)
    assert calibration_error(mixed, label) == 0
    assert reliability(mixed, label) == [(0.0, 0.0, 30), (1.0, 1.0, 70)]
