"""The promotion gate: what a challenger must meet; every condition is judged, with figures, and none hides another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.intervals import Pool, interval, pooled, summary
from pipelines.model_card import figure, subgroups


@dataclass(frozen=True)
class Limits:
    """The numbers of the gate; those of a decision are stored with it."""

    margin: float = 0.01
    """Least gain of the primary metric over the champion, in its own unit (0.01 = one Dice point)."""
    worse_at_most: float = 0.02
    """How far below zero the paired 95 % interval of that gain may reach."""
    above_trivial: float = 0.0
    """The primary metric must be above the trivial competitor's by more than this, also in each subgroup."""
    subgroup_drop: float = 0.05
    """How much worse than the champion a subgroup may be."""
    subgroup_groups: int = 3
    """A subgroup of fewer patients or drives is told of and not judged."""
    seconds: float = 60.0
    """Longest prediction on one stored held-out subject."""
    megabytes: float = 500.0
    """Largest file of weights."""


@dataclass(frozen=True)
class Judged:
    """An evaluation, and how its primary metric comes about."""

    key: str
    result: Mapping[str, Any]
    pool: Pool | None = None
    """Makes the primary metric of `details`; None: it is a mean over cases."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Subject id -> "metrics" and "trivial": what the model and the competitor on its case tell `pool`."""

    @property
    def primary(self) -> str:
        return str(self.result["primary"])

    @property
    def cases(self) -> dict[str, Mapping[str, Any]]:
        return {case["subject_id"]: case for case in self.result["cases"]}

    def of(self, cases: Sequence[Mapping[str, Any]], who: str = "metrics") -> float:
        """The primary metric of some cases, of the model or ("trivial") of the competitor; nan where undefined."""
        if self.pool is not None:
            return self.pool([self.details[case["subject_id"]][who] for case in cases]).get(self.primary, math.nan)
        values = [_number(self.cases[case["subject_id"]][who][self.primary]) for case in cases]
        known = [value for value in values if math.isfinite(value)]
        return float(np.mean(known)) if known else math.nan


@dataclass(frozen=True)
class Trial:
    """What came of loading a version as MLflow does, pickles off, in a process of its own, and predicting once."""

    error: str
    """Why it does not load; "" where it does."""
    seconds: float | None
    """Of a second prediction on a held-out subject; None where there was none to try."""
    threads: int
    megabytes: float


@dataclass(frozen=True)
class Condition:
    """One condition and whether it is met."""

    name: str
    met: bool
    says: str
    """With figures, for a reader."""


@dataclass(frozen=True)
class Challenge:
    """Everything the gate looks at."""

    lineage: Mapping[str, Any]
    """Of the challenger's `model.json`."""
    weights_sha256: str
    judged: Judged | None
    champion: Judged | None
    """The champion's evaluation on the same cases, else its own."""
    has_champion: bool
    trial: Trial
    card: str
    """Text of the model card; "" where the version has none."""
    approved_by: str
    reason: str


def judge(challenge: Challenge, limits: Limits) -> list[Condition]:
    """Every condition that can be judged, met or not.

    Without an evaluation nothing is said of what it would show; without a champion, or one that was judged on other
    cases, nothing of the comparison.
    """
    found = [_approval(challenge), _evaluation(challenge)]
    if challenge.judged is not None:
        found += [_groups(challenge.judged, challenge.lineage), _floor(challenge.judged, limits)]
        found += [_subgroup_floors(challenge.judged, limits)]
        if challenge.has_champion:
            found += _comparison(challenge.judged, challenge.champion, limits)
    return [*found, *_practice(challenge, limits)]


def _approval(challenge: Challenge) -> Condition:
    who, why = challenge.approved_by.strip(), challenge.reason.strip()
    if who and why:
        return Condition("approval", True, f"approved by {who}: {why}")
    return Condition("approval", False, "no approval: --approved-by says who approves, --reason why")


def _evaluation(challenge: Challenge) -> Condition:
    judged = challenge.judged
    if judged is None:
        return Condition("evaluation", False, "no stored evaluation: `selfsight evaluate`, then `register`")
    told = f"{judged.primary} {figure(judged.result['metrics'][judged.primary])}"
    if judged.result.get("weights_sha256") != challenge.weights_sha256:
        return Condition("evaluation", False, f"evaluation {judged.key} ({told}) is one of other weights")
    return Condition("evaluation", True, f"{told} on {judged.result['kind']} groups, evaluation {judged.key}")


def _groups(judged: Judged, lineage: Mapping[str, Any]) -> Condition:
    """No judged group was learned from, by the model or by the encoder before it."""
    groups = {case["group_id"] for case in judged.result["cases"]}
    labelled = groups & {*lineage["label_groups"], *lineage.get("probed_groups", ())}
    unlabelled = groups & set(lineage["pretrain_groups"])
    wrong = []
    if judged.result["within_group"]:
        wrong.append("held out within a group: there were fewer than three groups")
    if labelled:
        wrong.append(f"{len(labelled)} of the {len(groups)} judged groups were learned from with their labels")
    if unlabelled:
        wrong.append(
            f"{len(unlabelled)} of the {len(groups)} judged groups were in the pretraining without labels "
            "(a transductive evaluation)"
        )
    return Condition(
        "groups", not wrong, "; ".join(wrong) or f"none of the {len(groups)} judged groups was learned from"
    )


def _floor(judged: Judged, limits: Limits) -> Condition:
    gain = judged.result["paired"][judged.primary]
    theirs = judged.result["trivial"]
    says = (
        f"{judged.primary} {figure(judged.result['metrics'][judged.primary])}, {theirs['name']} "
        f"{figure(theirs['metrics'][judged.primary])}: {_signed(gain)}, must be above {limits.above_trivial:+.3f}"
    )
    return Condition("floor", _number(gain["mean"]) > limits.above_trivial, says)


def _subgroup_floors(judged: Judged, limits: Limits) -> Condition:
    """Every subgroup that is large enough is above the trivial competitor."""
    low, all_told = [], []
    for name, cases, enough in _subgroups(judged, limits):
        mine, theirs = judged.of(cases), judged.of(cases, "trivial")
        told = f"{name} {_shown(mine)} against {_shown(theirs)} (n={len(cases)})"
        all_told.append(told if enough else f"{told} too few to judge")
        if enough and math.isfinite(theirs) and not mine - theirs > limits.above_trivial:
            low.append(told)
    wrong = f"{judged.primary} is not above {judged.result['trivial']['name']} in: {'; '.join(low)}"
    return Condition("subgroups", not low, wrong if low else "; ".join(all_told) or "no fact divides the cases")


def _comparison(judged: Judged, champion: Judged | None, limits: Limits) -> Iterator[Condition]:
    """The challenger and the champion on the same cases."""
    if champion is None:
        yield Condition("held_out", False, "the champion has no stored evaluation: judge it on the same groups, "
                        "`selfsight evaluate CHAMPION --held-out-of CHALLENGER`")  # fmt: skip
        return
    mine, theirs = (one.result.get("judged_digest") or "none" for one in (judged, champion))
    if mine != theirs or judged.cases.keys() != champion.cases.keys() or "none" in (mine, theirs):
        yield Condition(
            "held_out", False,
            f"judged on other cases than the champion was (digest {mine[:12]}, {len(judged.cases)} cases; the "
            f"champion's {theirs[:12]}, {len(champion.cases)}), so the two cannot be compared: judge it on the same "
            "groups, `selfsight evaluate CHAMPION --held-out-of CHALLENGER`",
        )  # fmt: skip
        return
    yield Condition("held_out", True, f"judged on the champion's {len(judged.cases)} cases, digest {mine[:12]}")
    gain = paired(judged, champion)
    low = _number(gain["low"])
    says = f"{judged.primary} {_signed(gain)} against the champion, paired over groups"
    yield Condition("not_worse", low >= -limits.worse_at_most, f"{says}; the interval may reach {-limits.worse_at_most:+.3f}")  # fmt: skip  # noqa: E501
    yield Condition("margin", gain["mean"] >= limits.margin, f"{says}; the gain must be {limits.margin:+.3f}")
    dropped, all_told = [], []
    for name, cases, enough in _subgroups(judged, limits):
        before = champion.of(cases)
        change = judged.of(cases) - before
        told = f"{name} {_shown(before)} {_shown(change, '+')} (n={len(cases)})"
        all_told.append(told if enough else f"{told} too few to judge")
        if enough and math.isfinite(before) and not change >= -limits.subgroup_drop:
            dropped.append(told)
    wrong = f"{judged.primary} drops by more than {limits.subgroup_drop:.3f} in: {'; '.join(dropped)}"
    yield Condition(
        "subgroups_kept", not dropped, wrong if dropped else "; ".join(all_told) or "no fact divides the cases"
    )


def paired(judged: Judged, champion: Judged) -> dict[str, float]:
    """Primary metric of the first minus that of the second, 95 % bootstrap over groups, each resample the same in both.

    Args:
        judged: the challenger's.
        champion: another model's, on the same cases.

    Returns:
        mean, low, high, n as `interval` gives them.
    """
    ids = sorted(judged.cases)
    groups = [judged.cases[i]["group_id"] for i in ids]
    if judged.pool is not None:
        draws = [pooled(judged.pool, [one.details[i]["metrics"] for i in ids], groups) for one in (judged, champion)]
        return summary(draws[0][judged.primary] - draws[1][judged.primary], groups)
    mine, theirs = ([_number(one.cases[i]["metrics"][judged.primary]) for i in ids] for one in (judged, champion))
    return interval([a - b for a, b in zip(mine, theirs, strict=True)], groups)


def _practice(challenge: Challenge, limits: Limits) -> Iterator[Condition]:
    """Loads without pickles, is quick and small enough, and says what it is."""
    trial = challenge.trial
    loads = trial.error or "mlflow.pyfunc.load_model loads it with pickles off"
    yield Condition("pickles", not trial.error, loads)
    if trial.seconds is not None:
        says = f"{trial.seconds:.2f} s a subject on {trial.threads} threads, at most {limits.seconds:g} s"
        yield Condition("latency", trial.seconds <= limits.seconds, says)
    elif not trial.error:
        yield Condition("latency", False, "no held-out subject is left in the store to measure it on")
    yield Condition("size", trial.megabytes <= limits.megabytes,
                    f"{trial.megabytes:.1f} MB of weights, at most {limits.megabytes:g} MB")  # fmt: skip
    right = challenge.weights_sha256 in challenge.card
    wrong = "the model card is of other weights" if challenge.card else "there is no model card"
    yield Condition("card", right, "the model card is there" if right else f"{wrong}: register it again")


def _subgroups(judged: Judged, limits: Limits) -> Iterator[tuple[str, list[Mapping[str, Any]], bool]]:
    """Name, cases, and whether they are enough, of each value of each fact that divides the cases."""
    cases = judged.result["cases"]
    for name, column in subgroups([case["facts"] for case in cases]).items():
        for word in sorted(set(column)):
            inside = [case for case, one in zip(cases, column, strict=True) if one == word]
            yield f"{name} {word}", inside, len({case["group_id"] for case in inside}) >= limits.subgroup_groups


def _number(value: float | None) -> float:
    """JSON has no nan: null is one."""
    return math.nan if value is None else float(value)


def _shown(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if math.isfinite(value) else "undefined"


def _signed(gain: Mapping[str, Any]) -> str:
    if not math.isfinite(_number(gain["mean"])):
        return "undefined"
    if not math.isfinite(_number(gain["low"])):
        return f"{gain['mean']:+.3f} (no interval, n={gain['n']})"
    return f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}, n={gain['n']})"
