"""Have new groups another distribution than the training groups? Energy distances, thresholds from draws of groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.spatial.distance import cdist

DRAWS = 999
"""Pseudo-new sets that a threshold is taken from; all there are where they are fewer."""
REFERENCES = 25
"""How often the new set is compared with a part of the training groups as large as the one a pseudo-new set leaves."""
LARGEST_SHARE = 3
"""A pseudo-new set has at most one in so many of the training groups."""
SEED = 0


@dataclass(frozen=True)
class Statistic:
    """One distance of the new groups to the training groups."""

    name: str
    value: float
    usual: float
    """Its mean over pseudo-new sets."""
    threshold: float
    """Above it the distance is an alarm; holds for all statistics of a test together."""

    @property
    def alarm(self) -> bool:
        return self.value > self.threshold


@dataclass(frozen=True)
class Comparison:
    """Whether new groups are like the training groups, by all statistics together."""

    statistics: tuple[Statistic, ...]
    false_alarm_rate: float
    """Chance of an alarm when nothing has changed: the one asked for, or the least that so few groups can give."""
    p: float
    """Share of pseudo-new sets, and the new set itself, whose largest statistic is as large."""
    drawn: int
    """Groups of a pseudo-new set."""

    @property
    def alarm(self) -> bool:
        return any(statistic.alarm for statistic in self.statistics)


def group_distances(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(N, F) rows, (N,) group indices 0..G-1 -> (G, G) mean Euclidean distance of a subject of one to one of another.

    Every group counts the same, however many subjects it has.
    """
    share = np.zeros((int(groups.max()) + 1, len(rows)))
    share[groups, np.arange(len(rows))] = 1
    share /= share.sum(1, keepdims=True)
    return share @ cdist(rows, rows) @ share.T


def scaled(trained: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns in robust deviations from the training median, large ones compressed (asinh): units and scales differ."""
    middle = np.median(trained, axis=0)
    low, high = np.percentile(trained, [25, 75], axis=0)
    spread = np.where(high > low, (high - low) / 1.349, trained.std(0))
    spread = np.where(spread > 0, spread, 1.0)
    return np.arcsinh((trained - middle) / spread), np.arcsinh((new - middle) / spread)


def energy(distances: np.ndarray, new: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(B,) energy distances of B pairs of sets of groups, 0 on average where both are of one distribution.

    Twice the mean distance across, less the mean distance between two groups of either set. Two subjects of one group
    are never compared: they are more alike than two patients, and their number is no matter of distribution.

    Args:
        distances: (G, G), see `group_distances`.
        new: (B, G) bool, the groups of one set.
        reference: (B, G) bool, those of the other; two at least.

    Source: Szekely and Rizzo 2013, "Energy statistics", doi:10.1016/j.jspi.2013.03.018.
    Differs: means over groups instead of subjects, none within a group; of a single new group only what is across.
    """
    across = _mean(distances, new, reference)
    return 2 * across - _within(distances, new) - _within(distances, reference)


def _mean(distances: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total: np.ndarray = ((a.astype(float) @ distances) * b).sum(1)
    return total / (a.sum(1) * b.sum(1))


def _within(distances: np.ndarray, a: np.ndarray) -> np.ndarray:
    others = distances - np.diag(np.diag(distances))
    count = a.sum(1)
    total: np.ndarray = ((a.astype(float) @ others) * a).sum(1)
    return total / np.maximum(count * (count - 1), 1)


def compare(families: Sequence[Mapping[str, np.ndarray]], new: np.ndarray, level: float) -> Comparison:
    """Compares new with training groups by several distances at once, at one false alarm rate for all of them.

    Pseudo-new sets of as many groups are drawn from the training groups, without replacement, and compared with the
    groups that are left. Each statistic is put on the scale of its own pseudo-new sets (mean 0, deviation 1), the
    largest of a family on that of the family (its own limit is 1), and the limit is a quantile of the largest of all:
    many statistics do not give many alarms, and a family of many does not drown a family of one. Where there are few
    training groups, a pseudo-new set has at most a third of them, and the new set is looked at in parts of that size.

    Args:
        families: of statistics, each name -> (G, G) over new and training groups together, see `group_distances`.
        new: (G,) bool; at least one, and at least three others.
        level: the false alarm rate asked for.

    Raises:
        ValueError: fewer than three training groups, or no new one.
    """
    trained = np.flatnonzero(~new)
    if len(trained) < 3 or not new.any():
        raise ValueError(f"{len(trained)} training groups and {int(new.sum())} new ones; at least three and one needed")
    generator = np.random.default_rng(SEED)
    count = max(1, min(int(new.sum()), len(trained) // LARGEST_SHARE))
    drawn = pseudo_new(trained, len(new), count, generator)
    looks, references = _looks(new, trained, count, generator)
    rate = max(level, 1 / (len(drawn) + 1))
    largest, strongest = np.full(len(drawn), -np.inf), -np.inf
    found: list[tuple[str, float, float, float]] = []
    for family in families:
        pseudo = np.array([energy(matrix, drawn, ~new & ~drawn) for matrix in family.values()])
        seen = np.array([energy(matrix, looks, references).mean() for matrix in family.values()])
        usual, spread = pseudo.mean(1), pseudo.std(1)
        spread[spread == 0] = 1.0
        peaks = ((pseudo - usual[:, None]) / spread[:, None]).max(0)
        spread *= max(_limit(peaks, rate), 1e-9)
        largest = np.maximum(largest, ((pseudo - usual[:, None]) / spread[:, None]).max(0))
        strongest = max(strongest, ((seen - usual) / spread).max())
        found += zip(family, seen.tolist(), usual.tolist(), spread.tolist(), strict=True)
    limit = _limit(largest, rate)
    statistics = tuple(Statistic(name, value, mean, mean + unit * limit) for name, value, mean, unit in found)
    return Comparison(statistics, rate, float(((largest >= strongest).sum() + 1) / (len(largest) + 1)), count)


def _limit(values: np.ndarray, rate: float) -> float:
    """What one more value of the same distribution exceeds with the chance `rate` at most."""
    return float(np.sort(values)[math.ceil((1 - rate) * (len(values) + 1) - 1e-9) - 1])


def pseudo_new(trained: np.ndarray, groups: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """(B, groups) bool: different sets of `count` of the training groups; all of them, or `DRAWS` at random."""
    if math.comb(len(trained), count) <= DRAWS:
        chosen: Sequence[Sequence[int]] = list(combinations(range(len(trained)), count))
    else:
        chosen = [generator.permutation(len(trained))[:count].tolist() for _ in range(DRAWS)]
    drawn = np.zeros((len(chosen), groups), dtype=bool)
    for row, members in enumerate(chosen):
        drawn[row, trained[list(members)]] = True
    return drawn


def _looks(
    new: np.ndarray, trained: np.ndarray, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`REFERENCES` pairs (parts of the new groups, parts of the training groups), as large as in a pseudo-new set."""
    looks, references = (np.zeros((REFERENCES, len(new)), dtype=bool) for _ in range(2))
    mine = np.flatnonzero(new)
    for row in range(REFERENCES):
        looks[row, generator.permutation(mine)[:count]] = True
        references[row, generator.permutation(trained)[: len(trained) - count]] = True
    return looks, references
