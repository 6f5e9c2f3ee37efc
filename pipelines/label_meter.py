"""Label meter: from a label-efficiency curve to what the next labels buy, and what pretraining is worth in labels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from domains.domain import load
from pipelines.intervals import RESAMPLES, Pool, pooled, summary, whole

EXPONENTS = np.geomspace(0.05, 3.0, 80)
USUAL_EXPONENT, FACTOR = 0.5, 2.5
"""Prior of the exponent: the usual one, and by which factor another is off at one standard deviation."""
LEAST_NOISE = 0.005
"""Of a mean score around its curve: a fit that is closer is luck."""
THRESHOLD = 0.01
MINUTES_PER_LABEL = 30.0
FEWEST_BUDGETS = 3
SCRATCH = "scratch"
"""The arm whose labels an advantage is counted in."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """Scores of one arm, paired: the same cases at every budget."""

    budgets: tuple[int, ...]
    """Labelled groups, ascending."""
    values: np.ndarray
    """(cases, budgets), 0..1."""
    groups: tuple[str, ...]
    """Patient or drive of each case: what is resampled."""
    draws: np.ndarray | None = None
    """(1 + RESAMPLES, budgets) of a metric of sets, which then stands for the mean over cases; see `intervals.pooled`.
    A resample in which it is not defined counts as the figure itself."""

    def means(self) -> np.ndarray:
        """(1 + RESAMPLES, budgets): the mean over the cases, and those of seeded resamples of the groups.

        Two arms with the same cases get the same resamples, so that their difference is a paired one.
        """
        if self.draws is not None:
            return np.where(np.isfinite(self.draws), self.draws, self.draws[0])
        names, of = np.unique(self.groups, return_inverse=True)
        draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
        weights = np.vstack([np.ones(len(of)), draws[:, of]])
        return np.asarray(weights @ self.values / weights.sum(1, keepdims=True))

    def last(self) -> float:
        """The score at the largest budget."""
        return float(self.values[:, -1].mean() if self.draws is None else self.draws[0, -1])


@dataclass(frozen=True)
class Curves:
    """score(K) = top - drop * (K + 1) ** -exponent: arrays (R,), a row for each mean that was fitted."""

    top: np.ndarray
    drop: np.ndarray
    exponent: np.ndarray

    def at(self, labels: float) -> np.ndarray:
        """(R,) expected scores with that many labelled groups; 0 where the law, far below its points, is negative."""
        return np.maximum(self.top - self.drop * (labels + 1) ** -self.exponent, 0)


def fit(budgets: Sequence[int], means: np.ndarray) -> Curves:
    """Saturating power laws through mean scores: never falling, never above 1.

    For a given exponent the law is a straight line in (K + 1) ** -exponent, so every exponent of a grid is tried. Three
    or four points cannot tell it from the top; a log-normal prior around the usual exponent decides what they leave
    open. Each resample draws its own centre from that prior, so that intervals carry this ignorance too.

    Args:
        budgets: at least three, ascending.
        means: (R, budgets); the first row is fitted with the usual exponent as the prior's centre.
    """
    x = (np.asarray(budgets, dtype=float) + 1) ** -EXPONENTS[:, None]  # (D, B)
    centred = x - x.mean(1, keepdims=True)
    average = means.mean(1)[:, None]
    drop = np.maximum(-(means @ centred.T) / (centred**2).sum(1), 0)  # (R, D)
    top = average + drop * x.mean(1)
    capped = top > 1  # then the line goes through 1
    drop = np.where(capped, np.maximum((1 - means) @ x.T / (x**2).sum(1), 0), drop)
    top = np.where(capped, 1, top)
    misfit = ((top[..., None] - drop[..., None] * x - means[:, None]) ** 2).sum(2)
    shape = means[1:] - average[1:]  # what resampling changes besides the level: the noise around a curve
    noise = max(LEAST_NOISE, float(shape.std(0).mean()) if len(shape) else 0.0)
    centres = np.random.default_rng(1).normal(math.log(USUAL_EXPONENT), math.log(FACTOR), (len(means), 1))
    centres[0] = math.log(USUAL_EXPONENT)
    surprise = (np.log(EXPONENTS) - centres) / math.log(FACTOR)
    best = np.argmin(misfit / noise**2 + surprise**2, axis=1)
    rows = np.arange(len(means))
    return Curves(top[rows, best], drop[rows, best], EXPONENTS[best])


def expected_gain(scores: Scores, labelled: float, labels: float) -> Estimate:
    """What `labels` more labelled groups are expected to add to the mean score, when `labelled` are there.

    The interval covers which patients were tested and the shape of the curve, not the luck of a training run or of
    the draw of labels: with one run per budget it is too narrow by that.
    """
    curves = fit(scores.budgets, scores.means())
    gains = curves.at(labelled + labels) - curves.at(labelled)
    low, high = np.percentile(gains[1:], [2.5, 97.5])
    return Estimate(float(gains[0]), min(float(low), float(gains[0])), max(float(high), float(gains[0])))


@dataclass(frozen=True)
class Worth:
    """How many labels from scratch reach what an arm reaches with `labels`; infinite beyond the largest budget."""

    labels: int
    equal: Estimate
    """Labels from scratch; 0 where even the smallest budget does better."""
    smallest: int
    largest: int
    flat_from: int
    """The budget beyond which scratch gains nothing in this study; `largest` where it gains up to there."""

    @property
    def saved(self) -> float:
        """Labels that the arm spares, at the mean; infinite when more than the study can tell."""
        return max(0.0, self.equal.mean - self.labels)

    def says(self) -> str:
        """E.g. "3 labels reach what 8.4 (4.1 to more than 30) reach from scratch: worth 5.4 labels"."""
        if math.isinf(self.equal.mean) and self.flat_from < self.largest:
            return (
                f"{self.labels} labels reach what scratch reaches with none of its budgets; it gains nothing beyond "
                f"{self.flat_from} labels here, so that the worth in labels cannot be counted"
            )
        equal, low, high = (self._count(part) for part in (self.equal.mean, self.equal.low, self.equal.high))
        around = "" if low == high == equal else f" ({low} to {high})"
        if self.saved == 0:
            worth = "none"
        elif math.isfinite(self.saved):
            worth = f"{self.saved:.1f} labels"
        else:
            spared = self.largest - self.labels
            worth = f"more than {spared} labels" if spared > 0 else "more than this study can count"
        return f"{self.labels} labels reach what {equal}{around} reach from scratch: worth {worth}"

    def _count(self, labels: float) -> str:
        if math.isinf(labels):
            return f"more than {self.largest}"
        return f"fewer than {self.smallest}" if labels == 0 and self.smallest > 0 else f"{labels:.1f}"


def worth_in_labels(arm: Scores, scratch: Scores) -> list[Worth]:
    """For each budget of an arm, the labels from scratch that equal its score, with paired intervals.

    The scratch curve is the best one that never falls (isotonic) through its means, straight in log(K + 1) between
    budgets. Nothing is extrapolated.

    Raises:
        ValueError: the two were not judged on the same cases.
    """
    if arm.groups != scratch.groups:
        raise ValueError("the arm and scratch must be judged on the same cases, in the same order")
    reached, references = arm.means(), [isotonic_regression(row).x for row in scratch.means()]
    flat_from = scratch.budgets[int(np.searchsorted(references[0], references[0][-1]))]
    found = []
    for column, labels in enumerate(arm.budgets):
        equal = np.array([_labels_for(s, scratch.budgets, r) for s, r in zip(reached[:, column], references, strict=True)])  # fmt: skip  # noqa: E501
        low, high = np.percentile(equal[1:], [2.5, 97.5], method="inverted_cdf")  # never between a number and infinity
        estimate = Estimate(float(equal[0]), float(low), float(high))
        found.append(Worth(labels, estimate, scratch.budgets[0], scratch.budgets[-1], flat_from))
    return found


def _labels_for(score: float, budgets: Sequence[int], rising: np.ndarray) -> float:
    """Where a rising curve reaches a score; 0 below its first point, infinite above its last."""
    after = int(np.searchsorted(rising, score))
    if after == 0:
        return float(budgets[0]) if score == rising[0] else 0.0
    if after == len(rising):
        return math.inf
    share = (score - rising[after - 1]) / (rising[after] - rising[after - 1])
    left, right = math.log1p(budgets[after - 1]), math.log1p(budgets[after])
    return math.expm1(left + share * (right - left))


@dataclass(frozen=True)
class Reading:
    """What the meter shows for one arm of a study."""

    arm: str
    budgets: tuple[int, ...]
    cases: int
    labelled: int
    """Groups with a label now: where the next hour starts."""
    minutes_per_label: float
    labels_per_hour: float
    gain_per_hour: Estimate
    threshold: float
    worth: tuple[Worth, ...]
    """Empty without an arm from scratch on the same cases."""

    @property
    def stop(self) -> bool:
        """Whether even the upper end of the expected gain of the next hour is below the threshold."""
        return self.gain_per_hour.high < self.threshold

    def says(self) -> str:
        """One sentence on the next hour of labelling."""
        gain = self.gain_per_hour
        beyond = " (beyond the study's largest budget)" if self.labelled > self.budgets[-1] else ""
        verdict = (
            f"stop: even the upper end is below {self.threshold:g}" if self.stop
            else f"go on: the upper end is not below {self.threshold:g}"
        )  # fmt: skip
        return (
            f"with {self.labelled} labelled groups{beyond}, the next hour of labelling ({self.labels_per_hour:.3g} "
            f"labels at {self.minutes_per_label:g} minutes) is expected to add {gain.mean:.3f} "
            f"({gain.low:.3f} to {gain.high:.3f}) to the score of {self.arm!r}; {verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity: labels beyond the largest budget are null, and `says` tells them."""
        worth = [
            {"labels": w.labels, "saved": _finite(w.saved), "says": w.says()}
            | {part: _finite(value) for part, value in asdict(w.equal).items()}
            for w in self.worth
        ]
        return {**asdict(self), "stop": self.stop, "says": self.says(), "worth": worth}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_meter(
    study: Mapping[str, Any], labelled: int, *, minutes_per_label: float = MINUTES_PER_LABEL,
    threshold: float = THRESHOLD, arm: str | None = None,
) -> Reading | None:  # fmt: skip
    """The meter of a study's arm: the one that scores best at its largest budget, or the one named.

    Args:
        study: a `study.json`; its `cases` are read and, where a metric of sets is judged by, what that is.
        labelled: groups that have a label now.
        minutes_per_label: what one labelled group costs.
        threshold: score per hour below which labelling is not worth going on.
        arm: its name.

    Returns:
        None when no such arm was tried at three budgets on at least two groups.
    """
    arms, of_sets = {one["arm"] for one in study["cases"]}, OfSets.of(study)
    curves = {name: found for name in sorted(arms) if (found := scores_of(study["cases"], name, of_sets)) is not None}
    curves = {name: s for name, s in curves.items() if len(s.budgets) >= FEWEST_BUDGETS and len(set(s.groups)) > 1}
    if not curves or (arm is not None and arm not in curves):
        return None
    name = arm or max(curves, key=lambda one: (curves[one].budgets[-1], curves[one].last()))
    scores, scratch = curves[name], curves.get(SCRATCH)
    per_hour = 60 / minutes_per_label
    comparable = scratch is not None and name != SCRATCH and scratch.groups == scores.groups
    return Reading(
        arm=name, budgets=scores.budgets, cases=len(scores.values), labelled=labelled,
        minutes_per_label=minutes_per_label, labels_per_hour=per_hour,
        gain_per_hour=expected_gain(scores, labelled, per_hour), threshold=threshold,
        worth=tuple(worth_in_labels(scores, scratch)) if comparable and scratch is not None else (),
    )  # fmt: skip


@dataclass(frozen=True)
class OfSets:
    """A primary metric that only sets of cases have, such as AUROC."""

    metric: str
    pool: Pool

    @classmethod
    def of(cls, study: Mapping[str, Any]) -> OfSets | None:
        """What a `study.json` was judged by; None where that is a mean over cases."""
        if not study.get("pooled"):
            return None
        pool = load(study["domain"]).heads[study["head"]].pool
        assert pool is not None
        return cls(study["primary"], pool)

    def draws(self, cases: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(1 + RESAMPLES,): the metric of the cases, fold by fold and averaged, and its resamples."""
        return pooled(self.pool, *self._columns(cases))[self.metric]

    def others(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
        """What else the head says of a set (AUROC within a view, ...): name -> mean, low, high, n."""
        columns = self._columns(cases)
        return {name: summary(draws, columns[1]) for name, draws in pooled(self.pool, *columns).items()
                if name != self.metric}  # fmt: skip

    def figure(self, cases: Sequence[Mapping[str, Any]]) -> float:
        """The first of `draws` by itself."""
        return whole(self.pool, *self._columns(cases))[self.metric]

    def _columns(self, cases: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[str], list[str]]:
        details, groups = ([case[key] for case in cases] for key in ("details", "group_id"))
        return details, groups, [f"{case['fold']} {case.get('draw', 0)}" for case in cases]


def scores_of(cases: Sequence[Mapping[str, Any]], arm: str, of_sets: OfSets | None = None) -> Scores | None:
    """The scores of an arm as a table of the cases that were judged at each of its budgets; None when there are none.

    A case that was judged more than once at a budget (several seeds) counts with its mean; a score that is not
    defined (null) counts as the worst, 0, as in the study's table.
    """
    seen: dict[tuple[str, str], dict[int, list[float]]] = {}
    for case in cases:
        if case["arm"] == arm:
            at = seen.setdefault((case["group_id"], case["subject_id"]), {})
            at.setdefault(case["label_budget"], []).append(case["score"] or 0.0)
    budgets = tuple(sorted({budget for at in seen.values() for budget in at}))
    whole = sorted(key for key, at in seen.items() if len(at) == len(budgets))
    if not whole:
        return None
    values = np.array([[float(np.mean(seen[key][budget])) for budget in budgets] for key in whole])
    draws, known = None, set(whole)
    if of_sets is not None:
        mine = [case for case in cases if case["arm"] == arm and (case["group_id"], case["subject_id"]) in known]
        draws = np.stack([of_sets.draws([c for c in mine if c["label_budget"] == k]) for k in budgets], axis=1)
        if not np.isfinite(draws[0]).all():
            return None
    return Scores(budgets, values, tuple(group for group, _ in whole), draws)


def newest_study(home: Path, recipe: str) -> tuple[Path, dict[str, Any]] | None:
    """The folder and content of the newest study of a recipe in the home, or None."""
    files = sorted(Path(home).glob("store/study/*/study.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files:
        study: dict[str, Any] = json.loads(file.read_text())
        if study["recipe"] == recipe:
            return file.parent, study
    return None
