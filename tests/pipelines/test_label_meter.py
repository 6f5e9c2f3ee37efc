"""The label meter on curves whose truth is known: gains, labels that pretraining is worth, and when to stop."""

from __future__ import annotations

import json
import math
import os
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from pipelines.label_meter import Scores, expected_gain, fit, newest_study, read_meter, scores_of, worth_in_labels

BUDGETS = (3, 10, 30)


def law(labels: float | np.ndarray, top: float = 0.85, drop: float = 0.6, exponent: float = 0.5) -> float | np.ndarray:
    return top - drop * (labels + 1) ** -exponent


def noisy(truth: np.ndarray, cases: int = 60, seed: int = 0, noise: float = 0.05, patients: float = 0.1) -> Scores:
    """Cases that differ by their patient, and less from budget to budget."""
    rng = np.random.default_rng(seed)
    values = truth + patients * rng.normal(size=(cases, 1)) + noise * rng.normal(size=(cases, len(truth)))
    return Scores(BUDGETS[: len(truth)], values, tuple(f"g{i:03}" for i in range(cases)))


@pytest.mark.parametrize(("top", "drop", "exponent"), [(0.85, 0.6, 0.5), (0.9, 0.6, 0.3), (0.85, 0.9, 1.0)])
def test_expected_gain__contains_the_truth(top: float, drop: float, exponent: float) -> None:
    truth = law(np.array(BUDGETS, float), top, drop, exponent)
    for labelled, more in ((30, 5), (10, 2)):
        gain = law(labelled + more, top, drop, exponent) - law(labelled, top, drop, exponent)
        inside = [noisy(truth, seed=seed) for seed in range(4)]
        found = [expected_gain(scores, labelled, more) for scores in inside]
        assert sum(e.low <= gain <= e.high for e in found) >= 3
        assert np.mean([e.mean for e in found]) == pytest.approx(gain, rel=0.5)


def test_expected_gain__flat_curve_buys_nothing() -> None:
    found = expected_gain(noisy(np.full(3, 0.7)), 30, 2)
    assert 0 <= found.low <= found.mean <= found.high < 0.005


def test_expected_gain__few_cases_and_noise__wide() -> None:
    truth = law(np.array(BUDGETS, float))
    many, few = (expected_gain(noisy(truth, cases=n, noise=0.2), 3, 3) for n in (300, 6))
    assert few.high - few.low > 2 * (many.high - many.low)


def test_expected_gain__resamples_groups_not_cases() -> None:
    few = noisy(law(np.array(BUDGETS, float)), cases=8, noise=0.15)
    tenfold = Scores(BUDGETS, np.repeat(few.values, 10, axis=0), tuple(np.repeat(few.groups, 10)))
    assert astuple(expected_gain(tenfold, 3, 3)) == pytest.approx(astuple(expected_gain(few, 3, 3)))


def test_expected_gain__below_the_first_budget__no_more_than_a_score_can_rise() -> None:
    found = expected_gain(noisy(law(np.array(BUDGETS, float)), cases=8, noise=0.2), 0, 2)
    assert 0 < found.low < found.high <= 1


@pytest.mark.parametrize("means", [[0.5, 0.9, 0.99], [0.6, 0.6, 0.6], [0.7, 0.5, 0.6], [0.2, 0.2, 0.9], [1, 1, 1]])
def test_fit__never_falls_and_never_exceeds_one(means: list[float]) -> None:
    curve = fit(BUDGETS, np.array([means]))
    at = np.array([curve.at(k)[0] for k in (0, 1, 3, 10, 30, 100, 10_000)])
    assert (np.diff(at) >= -1e-12).all() and at[-1] <= 1 + 1e-12


def test_fit__recovers_an_exact_law() -> None:
    budgets = (0, 3, 10, 30)
    curve = fit(budgets, law(np.array(budgets, float))[None])
    assert (curve.top[0], curve.drop[0]) == pytest.approx((0.85, 0.6), abs=0.02)
    assert curve.at(60)[0] == pytest.approx(law(60), abs=0.003)


def test_worth_in_labels__an_arm_with_a_known_head_start() -> None:
    """An arm that scores with K labels what scratch does with more: straight in log(K + 1) between the budgets."""
    scratch = noisy(np.array([0.5, 0.6, 0.8]), noise=0.01)
    shift = 0.05 - 0.0001
    arm = Scores(BUDGETS, scratch.values + shift, scratch.groups)
    three, ten, thirty = worth_in_labels(arm, scratch)
    halfway = math.expm1((math.log1p(3) + math.log1p(10)) / 2)
    assert three.equal.mean == pytest.approx(halfway, rel=0.1)
    assert three.equal.low <= three.equal.mean <= three.equal.high
    assert three.saved == pytest.approx(three.equal.mean - 3)
    assert 10 < ten.equal.mean < 30
    assert math.isinf(thirty.equal.mean) and math.isinf(thirty.saved)
    assert thirty.says() == "30 labels reach what more than 30 reach from scratch: worth more than this study can count"


def test_worth_in_labels__a_worse_arm_is_worth_none() -> None:
    scratch = noisy(np.array([0.5, 0.6, 0.8]), noise=0.01)
    found = worth_in_labels(Scores(BUDGETS, scratch.values - 0.05, scratch.groups), scratch)
    assert [w.saved for w in found] == [0, 0, 0]
    assert "fewer than 3" in found[0].says() and found[0].says().endswith("worth none")
    assert worth_in_labels(scratch, scratch)[0].saved == 0


def test_worth_in_labels__where_scratch_gains_nothing_any_more__nothing_is_counted() -> None:
    scratch = noisy(np.array([0.5, 0.6, 0.55]))
    arm = Scores(BUDGETS, np.stack([scratch.values[:, 1] + 0.1] * 3, 1), scratch.groups)
    found = worth_in_labels(arm, scratch)
    assert [worth.flat_from for worth in found] == [10, 10, 10]
    assert "nothing beyond 10 labels" in found[0].says() and "cannot be counted" in found[0].says()
    reached = worth_in_labels(Scores(BUDGETS, scratch.values - 0.05, scratch.groups), scratch)
    assert reached[0].says().endswith("worth none")


def test_worth_in_labels__other_cases__refused() -> None:
    scratch = noisy(np.array([0.5, 0.6, 0.8]))
    with pytest.raises(ValueError, match="same cases"):
        worth_in_labels(Scores(BUDGETS, scratch.values[:5], scratch.groups[:5]), scratch)


def study(**arms: np.ndarray) -> dict:
    cases = []
    for arm, truth in arms.items():
        scores = noisy(truth, seed=len(arm))
        cases += [
            {"arm": arm, "label_budget": k, "fold": 0, "subject_id": f"s{i}", "group_id": g, "score": float(v)}
            for i, g in enumerate(scores.groups)
            for k, v in zip(scores.budgets, scores.values[i], strict=True)
        ]
    return {"recipe": "brain_tumor", "table": [], "cases": cases}


def test_read_meter__steep_goes_on_and_flat_stops() -> None:
    steep = read_meter(study(scratch=np.array([0.3, 0.5, 0.7]), mae=np.array([0.4, 0.6, 0.8])), 3)
    assert steep is not None and steep.arm == "mae" and not steep.stop and len(steep.worth) == 3
    flat = read_meter(study(scratch=np.full(3, 0.7)), 30)
    assert flat is not None and flat.stop and flat.worth == ()
    assert "stop" in flat.says() and "go on" in steep.says()
    said = json.loads(json.dumps(steep.to_json(), allow_nan=False))
    assert said["stop"] is False and said["labels_per_hour"] == 2
    assert said["worth"][2]["mean"] is None and "more than 30" in said["worth"][2]["says"]


def test_read_meter__an_hour_has_more_labels_when_they_are_cheap() -> None:
    made = study(scratch=np.array([0.3, 0.5, 0.7]))
    slow, fast = (read_meter(made, 10, minutes_per_label=minutes) for minutes in (60, 5))
    assert slow is not None and fast is not None
    assert slow.gain_per_hour.mean < fast.gain_per_hour.mean


def test_read_meter__nothing_to_read() -> None:
    assert read_meter(study(scratch=np.array([0.3, 0.5])), 3) is None
    assert read_meter(study(scratch=np.array([0.3, 0.5, 0.6])), 3, arm="mae") is None
    assert read_meter({"cases": []}, 3) is None


def test_scores_of__pairs_cases_and_averages_seeds() -> None:
    def case(subject: str, budget: int, score: float | None) -> dict:
        return {"arm": "a", "label_budget": budget, "subject_id": subject, "group_id": "g" + subject, "score": score}

    cases = [case("1", 3, 0.2), case("1", 3, 0.4), case("1", 10, 0.5), case("2", 3, 0.9)]
    cases += [case("3", 3, 0.6), case("3", 10, None)]
    scores = scores_of(cases, "a")
    assert scores is not None
    assert (scores.budgets, scores.groups) == ((3, 10), ("g1", "g3"))
    assert scores.values.tolist() == [[pytest.approx(0.3), 0.5], [0.6, 0.0]]
    assert scores_of(cases, "b") is None


def test_newest_study__of_this_recipe(tmp_path: Path) -> None:
    assert newest_study(tmp_path, "brain_tumor") is None
    for age, (key, recipe) in enumerate((("c", "hippocampus"), ("b", "brain_tumor"), ("a", "brain_tumor"))):
        file = tmp_path / "store" / "study" / key / "study.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"recipe": recipe, "table": [], "cases": []}))
        os.utime(file, (1e9 - age, 1e9 - age))
    found = newest_study(tmp_path, "brain_tumor")
    assert found is not None and found[0].name == "b"
