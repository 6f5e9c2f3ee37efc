"""Batches are a pure function of (seed, step), come in order, and end cleanly."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from pipelines.loaders import batches, draw, hashed
from ssl_models.protocols import Batch
from tests.pipelines.tiny_training import Noise


def _run(start: int, stop: int, **options: int) -> list[tuple[int, list[int], tuple[str, ...], torch.Tensor]]:
    stream = batches(Noise(), seed=5, batch_size=3, start=start, stop=stop, **options)
    return [(step, b.sample_seed.tolist(), b.group_id, b.crops) for step, b in stream]


def test_batches__start_in_the_middle_is_the_same_run() -> None:
    whole, tail = _run(0, 12), _run(7, 12, threads=3, ahead=7)
    assert [step for step, *_ in whole] == list(range(12))
    for one, other in zip(whole[7:], tail, strict=True):
        assert one[:3] == other[:3]
        assert torch.equal(one[3], other[3])


def test_draw__epochs_without_replacement() -> None:
    order = [i for step in range(7) for i in draw(step, seed=1, batch_size=4, subjects=14)[0]]
    assert Counter(order[:14]) == Counter(order[14:]) == Counter(range(14))
    assert order[:14] != order[14:]
    assert order != [i for step in range(7) for i in draw(step, seed=2, batch_size=4, subjects=14)[0]]


def test_draw__seeds_are_in_range_and_never_repeat() -> None:
    seeds = [seed for step in range(500) for seed in draw(step, seed=0, batch_size=8, subjects=3)[1]]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0 and max(seeds) < 2**62


def test_hashed__known_values() -> None:
    """A change here changes every run: bump no digit without bumping the stage versions."""
    assert [int(hashed(1, 2, 3)), int(hashed(0))] == [7702586659592502839, 16294208416658607535]


def test_batches__errors_surface_at_their_step() -> None:
    class Broken(Noise):
        def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
            if seeds == draw(4, seed=5, batch_size=3, subjects=7)[1]:
                raise OSError("chunk 3 of subject 5 is damaged")
            return super().batch(subjects, seeds, crops)

    seen = []
    with pytest.raises(OSError, match="chunk 3"):
        for step, _ in batches(Broken(), seed=5, batch_size=3, start=0, stop=9):
            seen.append(step)
    assert seen == [0, 1, 2, 3]


def test_batches__closing_ends_the_threads() -> None:
    stream = batches(Noise(), seed=5, batch_size=3, start=0, stop=1000, threads=2)
    next(stream)
    assert any(thread.name.startswith("loader") for thread in threading.enumerate())
    stream.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("loader") for thread in threading.enumerate())


def test_batches__reads_no_further_ahead_than_told() -> None:
    class Counting(Noise):
        calls = 0

        def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
            self.calls += 1
            return super().batch(subjects, seeds, crops)

    source = Counting()
    stream = batches(source, seed=5, batch_size=3, start=0, stop=1000, ahead=3)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert source.calls <= 3


def test_batches__no_subjects() -> None:
    class Empty(Noise):
        def __len__(self) -> int:
            return 0

    with pytest.raises(ValueError, match="no subjects"):
        next(batches(Empty(), seed=0, batch_size=1, start=0, stop=1))


@pytest.mark.parametrize("ranks", [2, 3])
def test_batches__shares_of_all_ranks_are_the_batch_of_one(ranks: int) -> None:
    asked: list[tuple[list[int], list[int]]] = []

    class Asked:
        def __len__(self) -> int:
            return 7

        def batch(self, subjects, seeds, crops=1):  # type: ignore[no-untyped-def]
            asked.append((list(subjects), list(seeds)))

    def shares(rank: int, ranks: int) -> list[tuple[list[int], list[int]]]:
        asked.clear()
        list(batches(Asked(), seed=5, batch_size=6, start=0, stop=4, rank=rank, ranks=ranks))
        return list(asked)

    whole, parts = shares(0, 1), [shares(rank, ranks) for rank in range(ranks)]
    for step, (subjects, seeds) in enumerate(whole):
        assert subjects == [s for part in parts for s in part[step][0]]
        assert seeds == [s for part in parts for s in part[step][1]]


def test_batches__no_equal_parts() -> None:
    with pytest.raises(ValueError, match="a batch of 5 has no 2 equal parts"):
        next(batches(Noise(), seed=0, batch_size=5, start=0, stop=1, ranks=2))
