"""Bootstrap intervals over groups: closed forms, pairing, and figures of sets that several models predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.intervals import RESAMPLES, interval, pooled, summary


def mean_of(details: list[dict[str, Any]]) -> dict[str, float]:
    return {"mean": float(np.mean([d["x"] for d in details]))}


def difference_of_classes(details: list[dict[str, Any]]) -> dict[str, float]:
    """A figure of the set that is not defined where a class is missing."""
    parts = [[d["x"] for d in details if d["y"] == y] for y in (0, 1)]
    return {"gap": float(np.mean(parts[1]) - np.mean(parts[0])) if all(parts) else float("nan")}


def cases(count: int, seed: int = 0) -> tuple[list[dict[str, Any]], list[str]]:
    rng = np.random.default_rng(seed)
    details = [{"x": float(x), "y": int(i % 2)} for i, x in enumerate(rng.normal(size=count))]
    return details, [f"g{i // 2:03}" for i in range(count)]


def test_pooled__a_mean_has_the_interval_of_means() -> None:
    details, groups = cases(60)
    figures = summary(pooled(mean_of, details, groups)["mean"], groups)
    assert figures == pytest.approx(interval([d["x"] for d in details], groups))


def test_pooled__half_width_of_a_proportion_as_in_the_formula() -> None:
    n = 400
    details, groups = [{"x": float(i < 100)} for i in range(n)], [str(i) for i in range(n)]
    found = summary(pooled(mean_of, details, groups)["mean"], groups)
    expected = 1.96 * np.sqrt(0.25 * 0.75 / n)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(expected, rel=0.08) and found["mean"] == 0.25


def test_pooled__groups_are_resampled_not_cases() -> None:
    details, groups = cases(20)
    tenfold = summary(pooled(mean_of, details * 10, groups * 10)["mean"], groups * 10)
    once = summary(pooled(mean_of, details, groups)["mean"], groups)
    assert (tenfold["low"], tenfold["high"]) == pytest.approx((once["low"], once["high"])) and tenfold["n"] == 200


def test_pooled__equal_sets_differ_by_exactly_nothing() -> None:
    details, groups = cases(40)
    shifted = [d | {"x": d["x"] + 0.25} for d in details]
    draws = pooled(mean_of, shifted, groups)["mean"] - pooled(mean_of, details, groups)["mean"]
    assert draws.shape == (1 + RESAMPLES,) and np.allclose(draws, 0.25)


def test_pooled__order_of_cases_does_not_matter() -> None:
    details, groups = cases(30)
    turned = pooled(mean_of, details[::-1], groups[::-1])["mean"]
    assert np.allclose(turned, pooled(mean_of, details, groups)["mean"])


def test_pooled__models_apart_and_averaged() -> None:
    """Two perfect models with scores on different scales: pooled together the gap would be lost."""
    details = [{"x": float(y + 10 * m), "y": y} for m in (0, 1) for y in (0, 1) for _ in range(10)]
    models = ["a"] * 20 + ["b"] * 20
    details[0]["x"] = -1.0
    groups = [str(i) for i in range(40)]
    found = pooled(difference_of_classes, details, groups, models)["gap"]
    apart = [difference_of_classes(details[i : i + 20])["gap"] for i in (0, 20)]
    assert found[0] == pytest.approx(np.mean(apart)) and found[0] != pytest.approx(apart[1])
    assert np.nanstd(found[1:]) < 0.2
    together = pooled(difference_of_classes, details, groups)["gap"]
    assert np.nanstd(together[1:]) > 5 * np.nanstd(found[1:])


def test_summary__resamples_without_a_class_are_left_out() -> None:
    details, groups = [{"x": float(i), "y": int(i == 0)} for i in range(4)], list("abcd")
    draws = pooled(difference_of_classes, details, groups)["gap"]
    missing = np.isnan(draws[1:]).mean()
    assert missing == pytest.approx(0.75**4 + 0.25**4, abs=0.03)
    found = summary(draws, groups)
    assert found["mean"] == -2 and found["low"] <= -2 <= found["high"]


@pytest.mark.parametrize(("groups", "details"), [(["a", "a"], [1, 0]), (["a", "b"], [1, 1])])
def test_summary__one_group_or_undefined__no_interval(groups: list[str], details: list[int]) -> None:
    found = summary(pooled(difference_of_classes, [{"x": 1.0, "y": y} for y in details], groups)["gap"], groups)
    assert np.isnan(found["low"]) and np.isnan(found["high"])
    assert found["n"] == (2 if 0 in details else 0)
