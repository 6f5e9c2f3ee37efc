"""Decisions: thresholds and rates against a slow search, halves that know nothing of each other, and "unknown"."""

import numpy as np
import pytest

from domains.medical import decisions


def cases(seed: int, count: int = 90, tell: float = 0.5):
    """Probabilities with ties, labels and halves."""
    draw = np.random.default_rng(seed)
    label = draw.random(count) < 0.4
    return (draw.random(count) * (1 - tell) + tell * label).round(2), label, draw.integers(2, size=count)


@pytest.mark.parametrize("sensitivity", [0.5, 0.9, 1.0])
def test_threshold_at__the_highest_that_finds_enough(sensitivity):
    for seed in range(20):
        probability, label, _ = cases(seed)
        enough = [t for t in np.unique(probability) if (probability[label] >= t).mean() >= sensitivity - 1e-12]
        assert decisions.threshold_at(probability, label, sensitivity) == max(enough)
    assert np.isnan(decisions.threshold_at(probability, np.zeros(len(label), bool), sensitivity))


def test_rates__known_table():
    called = np.array([True, True, True, False, False, False, False])
    label = np.array([True, True, False, True, False, False, False])
    assert decisions.rates(decisions.counts(called, label)) == {
        "sensitivity": 2 / 3, "specificity": 3 / 4, "ppv": 2 / 3, "npv": 3 / 4,
    }  # fmt: skip
    assert np.isnan(decisions.rates(decisions.counts(np.array([False]), np.array([False])))["ppv"])


def test_cross_fitted__each_half_by_the_threshold_of_the_other():
    probability, label, half = cases(3)
    table = dict.fromkeys([(y, c) for y in (0, 1) for c in (0, 1)], 0)
    for p, y, h in zip(probability, label, half, strict=True):
        others = sorted(q for q, z, g in zip(probability, label, half, strict=True) if z and g != h)
        threshold = max(t for t in others if np.mean(np.array(others) >= t) >= 0.9)
        table[int(y), int(p >= threshold)] += 1
    found = decisions.cross_fitted(probability, label, half)
    assert found["sensitivity"] == pytest.approx(table[1, 1] / label.sum())
    assert found["specificity"] == pytest.approx(table[0, 0] / (~label).sum())
    assert found["ppv"] == pytest.approx(table[1, 1] / (table[1, 1] + table[0, 1]))
    assert found["npv"] == pytest.approx(table[0, 0] / (table[0, 0] + table[1, 0]))


def test_cross_fitted__half_that_is_shifted_shows_it():
    """The model says 0.3 more in one half: the ROC reading on all cases cannot know, the cross-fitted figure does."""
    probability, label, half = cases(5, 2000, tell=0.3)
    found = decisions.cross_fitted(probability + 0.3 * half, label, half)
    assert found["sensitivity"] < 0.85
    assert 0.87 < decisions.cross_fitted(probability, label, half)["sensitivity"] < 0.93


def test_cross_fitted__undefined_without_the_finding_in_a_half():
    probability, label, half = cases(1)
    found = decisions.cross_fitted(probability, label & (half == 0), half)
    assert all(np.isnan(value) for value in found.values()) and set(found) == {
        "sensitivity",
        "specificity",
        "ppv",
        "npv",
    }


def test_figures__the_reading_off_the_curve_is_optimistic_on_average():
    """The same operating point costs more on other patients: sensitivity plus specificity falls, on average."""
    read, fitted = [], []
    for seed in range(300):
        probability, label, half = cases(seed, 60, tell=0.2)
        found = decisions.figures(probability, label, half)
        at = decisions.threshold_at(probability, label, decisions.SENSITIVITY)
        read.append((probability[label] >= at).mean() + found["specificity_at_90_percent_sensitivity"])
        fitted.append(found["sensitivity_cross_fitted"] + found["specificity_cross_fitted"])
    gap = np.array(read) - np.array(fitted)
    assert gap.mean() > 4 * gap.std() / np.sqrt(len(gap))


def test_selective__known_answers():
    probability, label = np.array([0.9, 0.8, 0.6, 0.4, 0.1, 0.2]), np.array([1, 0, 0, 1, 0, 0], bool)
    found = decisions.selective(np.tile(probability, 3), np.tile(label, 3))
    assert [decisions.answer(p) for p in probability] == ["yes", "yes", "unknown", "unknown", "no", "no"]
    assert found == pytest.approx({
        "answered": 4 / 6, "error_answered": 1 / 4, "error_all": 3 / 6, "sensitivity_answered": 1.0,
        "specificity_answered": 2 / 3,
    })  # fmt: skip
    few = decisions.selective(probability, label)  # four answers are too few to judge them
    assert few["answered"] == 4 / 6 and few["error_all"] == 0.5 and np.isnan(few["error_answered"])
    nobody = decisions.selective(np.array([0.5, 0.6]), np.array([True, False]))
    assert nobody["answered"] == 0 and np.isnan(nobody["error_answered"]) and nobody["error_all"] == 0.5


def test_selective__confidence_that_means_something_leaves_fewer_errors():
    draw = np.random.default_rng(0)
    probability = draw.random(4000)
    found = decisions.selective(probability, draw.random(4000) < probability)
    assert found["error_answered"] < 0.6 * found["error_all"] and 0.4 < found["answered"] < 0.6
    chance = decisions.selective(probability, draw.random(4000) < 0.5)  # negative control
    assert chance["error_answered"] == pytest.approx(chance["error_all"], abs=0.03)
