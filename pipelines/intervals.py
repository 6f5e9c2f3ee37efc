"""Intervals: 95 % bootstrap over groups, of a mean over cases, of a figure of the whole set, and of differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

RESAMPLES = 2000

Pool = Callable[[Sequence[dict[str, Any]]], dict[str, float]]
"""Details of a set of cases -> figures of the set; `Head.pool`."""


def interval(values: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    """Mean with a 95 % percentile bootstrap interval over groups (patients), seeded; undefined values left out.

    Returns:
        mean, low, high, and n, the number of defined values; low and high are nan with fewer than two groups.
    """
    pairs = [(value, group) for value, group in zip(values, groups, strict=True) if np.isfinite(value)]
    if not pairs:
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0}
    order = {group: i for i, group in enumerate(sorted({g for _, g in pairs}))}
    sums, counts = np.zeros(len(order)), np.zeros(len(order))
    for value, group in pairs:
        sums[order[group]] += value
        counts[order[group]] += 1
    draws = _draws(len(order))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.percentile(means, [2.5, 97.5]) if len(order) > 1 else (np.nan, np.nan)
    return {"mean": float(sums.sum() / counts.sum()), "low": float(low), "high": float(high), "n": len(pairs)}


def pooled(
    pool: Pool, details: Sequence[dict[str, Any]], groups: Sequence[str], models: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Figures of a set of cases (AUROC, ...), and what they are on seeded resamples of its groups.

    Two sets with the same groups get the same resamples, so that their difference is a paired one.

    Args:
        pool: what makes figures of a set.
        details: of each case, as JSON.
        groups: of each case; what is resampled.
        models: of each case, the model (the fold) that predicted it, where there were several. Their cases are pooled
            apart and the figures averaged, in every resample: scores of different models are not ranked together.

    Returns:
        Name -> (1 + RESAMPLES,): the figure, then its resamples; nan where it is not defined.
    """
    return dict(_pooled(pool, json.dumps([list(details), list(groups), list(models or [""] * len(groups))])))


def whole(
    pool: Pool, details: Sequence[dict[str, Any]], groups: Sequence[str], models: Sequence[str]
) -> dict[str, float]:
    """The figures of `pooled` without resamples."""
    parts, order = _parts(details, groups, models)
    return _figures(pool, parts, range(len(order)))


@lru_cache(maxsize=64)  # a study asks for the same set in its table, in each difference and in the label meter
def _pooled(pool: Pool, cases: str) -> dict[str, np.ndarray]:
    parts, order = _parts(*json.loads(cases))
    rows = [_figures(pool, parts, draw) for draw in [range(len(order)), *_draws(len(order)).tolist()]]
    return {name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name in rows[0]}


def _parts(
    details: Sequence[dict[str, Any]], groups: Sequence[str], models: Sequence[str]
) -> tuple[dict[str, list[list[dict[str, Any]]]], dict[str, int]]:
    """Model -> details of each group's cases, and the place of each group."""
    order = {group: i for i, group in enumerate(sorted(set(groups)))}
    parts: dict[str, list[list[dict[str, Any]]]] = {model: [[] for _ in order] for model in sorted(set(models))}
    for detail, group, model in zip(details, groups, models, strict=True):
        parts[model][order[group]].append(detail)
    return parts, order


def _figures(
    pool: Pool, parts: Mapping[str, Sequence[Sequence[dict[str, Any]]]], draw: Sequence[int]
) -> dict[str, float]:
    """Means over the models of what each one's cases in the drawn groups give, as far as that is defined."""
    drawn = [[detail for group in draw for detail in part[group]] for part in parts.values()]
    each = [pool(cases) for cases in drawn if cases]
    found = {}
    for name in dict.fromkeys(name for one in each for name in one):
        known = [one[name] for one in each if name in one and np.isfinite(one[name])]
        found[name] = float(np.mean(known)) if known else float("nan")
    return found


def summary(draws: np.ndarray, groups: Sequence[str]) -> dict[str, float]:
    """A pooled figure, or the difference of two, with its 95 % percentile interval and the number of its cases.

    Resamples in which it is not defined (only one class was drawn) are left out; low and high are nan with fewer than
    two groups.
    """
    known = draws[1:][np.isfinite(draws[1:])]
    sure = len(set(groups)) > 1 and np.isfinite(draws[0]) and len(known) > 0
    low, high = np.percentile(known, [2.5, 97.5]) if sure else (np.nan, np.nan)
    count = len(groups) if np.isfinite(draws[0]) else 0
    return {"mean": float(draws[0]), "low": float(low), "high": float(high), "n": count}


def without_nan(value: Any) -> Any:
    """JSON has no nan: undefined figures become null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _draws(groups: int) -> np.ndarray:
    """(RESAMPLES, groups) int64: which groups each resample has, the same for the same number of them."""
    return np.random.default_rng(0).integers(groups, size=(RESAMPLES, groups))
