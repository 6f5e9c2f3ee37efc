"""Drift's distance and threshold: a slow reference, groups that count once, the promised rate, planted shifts."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import drift_distance
from pipelines.drift_distance import compare, energy, group_distances, pseudo_new, scaled


def matrices(rows: np.ndarray) -> dict[str, np.ndarray]:
    """One statistic a column, every row a group of its own."""
    return {str(i): group_distances(rows[:, [i]], np.arange(len(rows))) for i in range(rows.shape[1])}


def correlated(count: int, seed: int) -> np.ndarray:
    """(count, 6) figures, half of them alike and some with long tails, as those of images are."""
    generator = np.random.default_rng(seed)
    base = generator.normal(size=(count, 3))
    return np.hstack([base, np.exp(base + 0.3 * generator.normal(size=base.shape))])


def test_energy__is_what_loops_over_pairs_of_groups_give():
    generator = np.random.default_rng(0)
    rows, groups = generator.normal(size=(14, 3)), np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 5, 5, 5])
    new, reference = np.array([[1, 1, 0, 0, 0, 0]], bool), np.array([[0, 0, 1, 0, 1, 1]], bool)

    def between(g: int, h: int) -> float:
        return float(np.mean([np.linalg.norm(a - b) for a in rows[groups == g] for b in rows[groups == h]]))

    across = np.mean([between(g, h) for g in (0, 1) for h in (2, 4, 5)])
    within_new = between(0, 1)
    within_reference = np.mean([between(2, 4), between(2, 5), between(4, 5)])
    slow = 2 * across - within_new - within_reference
    assert energy(group_distances(rows, groups), new, reference)[0] == pytest.approx(slow, abs=1e-12)


def test_group_distances__a_group_counts_once_however_many_subjects_it_has():
    rows, groups = np.array([[0.0], [1.0], [5.0]]), np.array([0, 1, 2])
    often = np.vstack([rows, np.repeat(rows[:1], 50, 0)]), np.append(groups, np.zeros(50, int))
    assert np.allclose(group_distances(rows, groups), group_distances(*often))


def test_compare__nothing_changed_gives_no_more_alarms_than_promised(monkeypatch):
    monkeypatch.setattr(drift_distance, "DRAWS", 99)
    new = np.arange(36) >= 30
    found = [compare([matrices(correlated(36, seed))], new, 0.05) for seed in range(120)]
    alarms = np.mean([one.alarm for one in found])
    assert alarms <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)
    assert all(one.alarm == (one.p <= 0.05) for one in found)
    alone = np.mean([
        any(compare([{name: m}], new, 0.05).alarm for name, m in matrices(correlated(36, seed)).items())
        for seed in range(40)
    ])  # fmt: skip
    assert alone > 0.1, "six statistics with a limit each would alarm far more often: the joint limit does something"


def test_compare__a_family_of_one_is_not_drowned_by_a_family_of_many():
    hits = {"together": 0, "apart": 0}
    for seed in range(12):
        generator = np.random.default_rng(seed)
        rows, new = np.exp(generator.normal(size=(50, 30))), np.arange(50) >= 40
        alone = generator.normal(size=(50, 1)) + new[:, None] * 1.2
        many, one = matrices(rows), {"one": group_distances(alone, np.arange(50))}
        hits["together"] += compare([many | one], new, 0.05).alarm
        hits["apart"] += compare([many, one], new, 0.05).alarm
    assert hits["apart"] >= hits["together"] + 3


@pytest.mark.parametrize("groups, shift", [(3, 2.5), (10, 1.3), (20, 1.3)])
def test_compare__a_planted_shift_is_found_and_named(groups, shift):
    hits = 0
    for seed in range(10):
        rows, new = correlated(40 + groups, seed), np.arange(40 + groups) >= 40
        rows[new, 1] += shift
        found = compare([matrices(rows)], new, 0.05)
        hits += found.alarm and max(found.statistics, key=lambda s: s.value - s.threshold).name == "1"
    assert hits >= 8


def test_compare__so_few_groups_that_the_rate_cannot_be_kept():
    rows = np.array([[0.0], [1.0], [2.0], [30.0]])
    found = compare([matrices(rows)], np.array([False, False, False, True]), 0.05)
    assert (found.false_alarm_rate, found.p, found.alarm, found.drawn) == (0.25, 0.25, True, 1)
    rows[3] = 1.5
    assert not compare([matrices(rows)], np.array([False, False, False, True]), 0.05).alarm
    with pytest.raises(ValueError, match="at least three"):
        compare([matrices(rows[1:])], np.array([False, False, True]), 0.05)


def test_compare__many_new_groups_are_looked_at_in_parts():
    rows, new = correlated(9 + 40, 0), np.arange(49) >= 9
    assert compare([matrices(rows)], new, 0.05).drawn == 3
    rows[new] += 4
    assert compare([matrices(rows)], new, 0.05).alarm


def test_pseudo_new__all_there_are_or_many_of_the_right_size():
    generator = np.random.default_rng(0)
    few = pseudo_new(np.arange(5), 7, 2, generator)
    assert few.shape == (10, 7) and len({tuple(row) for row in few.tolist()}) == 10 and not few[:, 5:].any()
    many = pseudo_new(np.arange(1, 40), 40, 10, generator)
    assert many.shape == (drift_distance.DRAWS, 40) and (many.sum(1) == 10).all() and not many[:, 0].any()


def test_scaled__units_and_constants_do_not_matter():
    generator = np.random.default_rng(0)
    trained, new = generator.normal(size=(50, 2)), generator.normal(size=(9, 2))
    there, back = scaled(trained * [1e6, 1e-3] + [4e6, 1], new * [1e6, 1e-3] + [4e6, 1])
    assert np.allclose(there, scaled(trained, new)[0]) and np.allclose(back, scaled(trained, new)[1])
    assert np.isfinite(scaled(np.ones((9, 1)), np.zeros((2, 1)))[1]).all()
