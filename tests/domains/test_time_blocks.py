"""Time blocks: a stretch of each recording is held out, what adjoins it is on neither side, and no key decides."""

from __future__ import annotations

import pytest

from domains.errors import UsageError
from domains.manifest import Subject
from domains.splits import split


def part(number: int, *, recording: str = "r", seconds: float = 60.0, group: str = "g", key: str = "") -> Subject:
    time = {"recording": recording, "from_seconds": number * seconds, "to_seconds": (number + 1) * seconds - 0.04}
    return Subject(
        subject_id=f"{key}{recording}{number:03}", group_id=group, split_bucket=7, entry="e",
        content_digest=f"{recording}-{number}", facts={"time": time},
    )  # fmt: skip


def numbers(subjects, recording="r"):
    found = [s for s in subjects if s.facts["time"]["recording"] == recording]
    return sorted(round(s.facts["time"]["from_seconds"] / 60) for s in found)


def test_split__one_drive__a_block_in_time_and_a_gap() -> None:
    subjects = [part(number) for number in range(20)]
    found = split(subjects)
    test, development = numbers(found.test), numbers(found.development)
    assert found.within_group and len(test) == 4 and test == list(range(test[0], test[0] + 4))
    assert set(range(20)) - set(test) - set(development) == {test[0] - 1, test[-1] + 1} & set(range(20))
    assert min(abs(a - b) for a in test for b in development) == 2


def test_split__one_drive__neither_order_nor_key_decides() -> None:
    one = split([part(number) for number in range(20)])
    other = split([part(number, key="zz"[number % 2 :], group="other") for number in range(19, -1, -1)])
    assert numbers(one.test) == numbers(other.test) and numbers(one.development) == numbers(other.development)


def test_split__two_recordings_of_one_drive__each_has_its_block() -> None:
    subjects = [part(number, recording=name) for name in ("a", "b") for number in range(10)]
    found = split(subjects)
    assert len(numbers(found.test, "a")) == len(numbers(found.test, "b")) == 2


def test_split__short_parts__whole_second_between() -> None:
    subjects = [part(number, seconds=0.2) for number in range(100)]
    found = split(subjects)
    times = [[s.facts["time"]["from_seconds"] for s in side] for side in (found.test, found.development)]
    assert min(abs(a - b) for a in times[0] for b in times[1]) > 1.0


def test_split__folds_hold_out_each_part_once() -> None:
    subjects = [part(number) for number in range(11)]
    folds = [split(subjects, f"{index}/3") for index in (1, 2, 3)]
    assert sorted(n for fold in folds for n in numbers(fold.test)) == list(range(11))
    for fold in folds:
        assert numbers(fold.test) == list(range(numbers(fold.test)[0], numbers(fold.test)[-1] + 1))
    with pytest.raises(UsageError, match="12 folds"):
        split(subjects, "1/12")


def test_split__two_parts__one_is_left_to_develop_on() -> None:
    found = split([part(0), part(1)])
    assert len(found.test) == len(found.development) == 1


def test_split__three_drives__by_drive_as_ever() -> None:
    subjects = [part(n, group=f"g{n % 3}").model_copy(update={"split_bucket": 100 * (n % 3 + 1)}) for n in range(9)]
    found = split(subjects)
    assert not found.within_group and {s.group_id for s in found.test} == {"g0"}
    assert len(found.test) + len(found.development) == 9
