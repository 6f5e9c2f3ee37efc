"""Drift, judged: embeddings are not told by the fit, sites are looked at by themselves, strange subjects are named."""

from __future__ import annotations

from typing import Any

import numpy as np

from domains.manifest import Subject
from pipelines.drift_judge import EMBEDDING, Looks, judge, leading, looks_of, spread_evenly, strangest


def some(count: int, prefix: str = "t", *, each: int = 1, **facts: Any) -> list[Subject]:
    """Subjects of groups of `each`."""
    return [
        Subject(subject_id=f"{prefix}{i}", group_id=f"{prefix}-group-{i // each}", split_bucket=i * 7 % 1000,
                entry=f"e{i}", content_digest=f"{prefix}{i}", facts={name: of[i] for name, of in facts.items()})
        for i in range(count)
    ]  # fmt: skip


def looks(trained: np.ndarray, new: np.ndarray, seed: int = 0) -> Looks:
    """The rows as figures, beside embeddings that say nothing."""
    generator = np.random.default_rng(seed)
    clouds = generator.normal(size=(len(trained), 24)), generator.normal(size=(len(new), 24))
    return looks_of([f"figure {i}" for i in range(trained.shape[1])], (trained, new), clouds)


def test_leading__wide_embeddings_of_one_distribution_are_not_told_apart():
    alarms = 0
    for seed in range(30):
        rows = np.random.default_rng(seed).normal(size=(60, 80))
        mine, theirs = leading(rows[:50], rows[50:])
        found = judge(Looks((EMBEDDING,), (mine,), (theirs,)), some(50), some(10, "n"), 0.05)
        alarms += found["alarm"]
    assert alarms <= 6  # with components fitted to the 50 alone, and the 10 projected, every one is an alarm


def test_judge__a_site_of_its_own_is_told_and_the_others_are_not():
    generator = np.random.default_rng(0)
    sites = ["AP", "PA"] * 30
    trained, new = some(60, site=sites), some(20, "n", site=["AP", "PA"] * 10)
    rows = generator.normal(size=(60, 2)) + (np.array(sites) == "PA")[:, None] * 3
    fresh = generator.normal(size=(20, 2)) + (np.arange(20) % 2)[:, None] * 3
    found = judge(looks(rows, fresh), trained, new, 0.05)
    assert not found["alarm"] and [t["site"] for t in found["tests"]] == ["all", "AP", "PA"]
    assert abs(found["false_alarm_rate"] - 0.05) < 1e-9
    fresh[1::2] += 2
    tests = {t["site"]: t for t in judge(looks(rows, fresh), trained, new, 0.05)["tests"]}
    assert tests["PA"]["alarm"] and not tests["AP"]["alarm"]
    assert tests["PA"]["trained"] == {"groups": 30, "subjects": 30} and tests["PA"]["compared_with"] == "PA"


def test_judge__a_site_that_training_does_not_know_is_compared_with_everything():
    generator = np.random.default_rng(1)
    rows, fresh = generator.normal(size=(30, 2)), generator.normal(size=(6, 2)) + 4
    found = judge(looks(rows, fresh), some(30, site=["A"] * 30), some(6, "n", site=["B"] * 6), 0.05)
    assert found["tests"][1]["compared_with"] == "all" and found["alarm"]


def test_judge__a_patient_of_the_training_data_may_come_again():
    generator = np.random.default_rng(2)
    found = judge(looks(generator.normal(size=(20, 1)), generator.normal(size=(4, 1))), some(20), some(4), 0.05)
    assert found["tests"][0]["new"]["groups"] == 4 and found["tests"][0]["trained"]["groups"] == 20


def test_strangest__planted_subject_leads_with_its_figure():
    generator = np.random.default_rng(3)
    rows, fresh = generator.normal(size=(40, 3)), generator.normal(size=(12, 3))
    fresh[7, 2] = 40
    first = strangest(looks(rows, fresh), some(12, "n"))[0]
    assert (first["subject_id"], first["by"]) == ("n7", "figure 2") and first["deviations"] > 5


def test_spread_evenly__every_group_before_a_second_subject_of_one():
    subjects = some(40, each=8)
    chosen = spread_evenly(subjects, 7)
    assert len(chosen) == 7 and len({s.group_id for s in chosen}) == 5
    assert chosen == spread_evenly(subjects[::-1], 7) and len(spread_evenly(subjects, 99)) == 40
