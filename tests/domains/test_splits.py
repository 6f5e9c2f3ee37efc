"""Splits are by group, stable under growth, and leaks are refused."""

from __future__ import annotations

import pytest

from domains.errors import GateRefused, UsageError
from domains.manifest import Subject
from domains.splits import budget_order, budget_units, label_budget, refuse_leak, split, split_bucket


def subject(i: int, group: int | None = None, bucket: int | None = None) -> Subject:
    group = i if group is None else group
    return Subject(
        subject_id=f"s{i:04}", group_id=f"g{group:04}", entry=f"e{i}", content_digest=f"d{i}", facts={},
        split_bucket=split_bucket("site", f"patient {group}") if bucket is None else bucket,
    )  # fmt: skip


def test_split__groups_never_straddle_and_about_a_fifth_is_held_out() -> None:
    parts = split([subject(i, group=i // 3) for i in range(3000)])
    assert not {s.group_id for s in parts.test} & {s.group_id for s in parts.development}
    assert len(parts.test) + len(parts.development) == 3000
    assert 0.15 < len(parts.test) / 3000 < 0.25
    assert not parts.within_group


def test_split__adding_groups_moves_nobody() -> None:
    before, after = split([subject(i) for i in range(50)]), split([subject(i) for i in range(90)])
    assert {s.subject_id for s in before.test} <= {s.subject_id for s in after.test}
    assert {s.subject_id for s in before.development} <= {s.subject_id for s in after.development}


def test_split__chance_left_no_test_group__lowest_buckets_are_held_out() -> None:
    parts = split([subject(i, bucket=300 + i) for i in range(10)])
    assert [s.subject_id for s in parts.test] == ["s0000", "s0001"]


def test_split__two_groups__within_group() -> None:
    parts = split([subject(i, group=i % 2) for i in range(20)])
    assert parts.within_group
    assert parts.test and parts.development


def test_split__one_subject__is_developed_on() -> None:
    parts = split([subject(0)])
    assert (len(parts.development), len(parts.test)) == (1, 0)


def test_label_budget__nested_and_by_group() -> None:
    subjects = [subject(i, group=i // 2) for i in range(40)]
    chosen = {k: {s.group_id for s in label_budget(subjects, k, seed=0)} for k in (3, 10, None)}
    assert len(chosen[3]) == 3 and len(chosen[10]) == 10 and len(chosen[None]) == 20
    assert chosen[3] < chosen[10] < chosen[None]
    assert chosen[3] != {s.group_id for s in label_budget(subjects, 3, seed=1)}


@pytest.mark.parametrize(("groups", "digests"), [({"g0001"}, set()), (set(), {"d1"})])
def test_refuse_leak__same_group_or_same_pixels(groups: set[str], digests: set[str]) -> None:
    with pytest.raises(GateRefused, match="leak"):
        refuse_leak(trained_groups=groups, trained_digests=digests, evaluated=[subject(1)])
    refuse_leak(trained_groups=groups, trained_digests=digests, evaluated=[subject(2)])


def test_split__folds__hold_out_every_group_once_in_equal_parts() -> None:
    subjects = [subject(i, group=i // 2) for i in range(152)]
    parts = [split(subjects, f"{i}/3") for i in (1, 2, 3)]
    held_out = [s.group_id for part in parts for s in part.test]
    assert sorted(held_out) == sorted(s.group_id for s in subjects)
    assert {len({s.group_id for s in part.test}) for part in parts} <= {25, 26}
    assert all(not {s.group_id for s in p.test} & {s.group_id for s in p.development} for p in parts)


def test_split__more_folds_than_groups__refused() -> None:
    with pytest.raises(UsageError, match="3 groups cannot make 5 folds"):
        split([subject(i) for i in range(3)], "1/5")


def test_label_budget__does_not_depend_on_the_key_of_the_ids() -> None:
    here = [subject(i) for i in range(40)]
    there = [
        s.model_copy(update={"subject_id": f"k{97 * i % 40}", "group_id": f"x{31 * i % 40}"})
        for i, s in enumerate(here)
    ]
    same = {s.content_digest for s in label_budget(here, 7, 0)}
    assert {s.content_digest for s in label_budget(there, 7, 0)} == same
    assert [s.content_digest for s in split(there).test] == [s.content_digest for s in split(here).test]


def test_budget_order__classes_take_turns_in_the_order_they_had() -> None:
    subjects = [subject(i) for i in range(40)]
    strata = {s.group_id: int(i % 5 == 0) for i, s in enumerate(subjects)}  # eight of forty have the finding
    blind, balanced = budget_order(subjects, 0), budget_order(subjects, 0, strata)
    assert [strata[group] for group in balanced[:16]] == [1, 0] * 8 and not any(strata[g] for g in balanced[16:])
    for value in (0, 1):
        assert [g for g in balanced if strata[g] == value] == [g for g in blind if strata[g] == value]
    chosen = {k: {s.group_id for s in label_budget(subjects, k, 0, strata)} for k in (2, 6, None)}
    assert chosen[2] < chosen[6] < chosen[None] and sum(strata[g] for g in chosen[6]) == 3


def test_label_budget__of_single_subjects__nested_and_from_every_group() -> None:
    subjects = [subject(i, group=i // 20) for i in range(60)]  # three drives of twenty frames
    chosen = {k: {s.subject_id for s in label_budget(subjects, k, seed=0, single=True)} for k in (5, 20, None)}
    assert (len(chosen[5]), len(chosen[20]), len(chosen[None])) == (5, 20, 60)
    assert chosen[5] < chosen[20] < chosen[None]
    assert len({s.group_id for s in label_budget(subjects, 20, seed=0, single=True)}) == 3
    assert budget_units(subjects, single=False) == tuple(subjects)
