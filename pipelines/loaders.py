"""Batches in order: which subject and which seed at each step is a pure function of (seed, step)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from domains.domain import CropSource
from ssl_models.protocols import Batch

ORDER, SAMPLE, STEP = 1, 2, 3
"""First key of `hashed`: keeps the streams for order, augmentation and the model's own draws apart."""


def batches(
    source: CropSource, *, seed: int, batch_size: int, start: int, stop: int, crops: int = 1, threads: int = 1,
    ahead: int = 4, rank: int = 0, ranks: int = 1,
) -> Iterator[tuple[int, Batch]]:  # fmt: skip
    """(step, batch) for every step in [start, stop), read ahead by background threads, given out in order.

    Starting at `start` gives exactly what a run from 0 gives there. An error of the source is raised here, at its
    step. Closing the iterator ends the threads.

    Args:
        source: crops of a fixed list of subjects; must draw from the seeds it is given alone.
        crops: of each subject.
        threads: readers in the background.
        ahead: batches kept ready at most.
        rank: which of `ranks` equal parts of every batch to give, so that all of them together are the batch of one.

    Raises:
        ValueError: the source is empty, or a batch has no equal parts.
    """
    if not len(source):
        raise ValueError("there are no subjects to train on")
    if batch_size % ranks:
        raise ValueError(f"a batch of {batch_size} has no {ranks} equal parts")
    share = slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)

    def read(step: int) -> Batch:
        subjects, seeds = draw(step, seed=seed, batch_size=batch_size, subjects=len(source))
        return source.batch(subjects[share], seeds[share], crops)

    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="loader")
    try:
        for step in range(start, stop):
            while len(waiting) < min(ahead, stop - step):
                waiting.append(pool.submit(read, step + len(waiting)))
            yield step, waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def draw(step: int, *, seed: int, batch_size: int, subjects: int) -> tuple[list[int], list[int]]:
    """Subject indices and sample seeds in [0, 2**62) of one step.

    Subjects come without replacement, epoch after epoch; a batch may reach over the end of one.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, within = np.divmod(positions, subjects)
    chosen = [int(_order(seed, int(epoch), subjects)[at]) for epoch, at in zip(epochs, within, strict=True)]
    seeds = hashed(SAMPLE, seed, step, np.arange(batch_size)) >> np.uint64(2)
    return chosen, seeds.tolist()


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, subjects: int) -> np.ndarray:
    """Subjects in the order of an epoch; kept, since sorting a million takes longer than a step."""
    return np.argsort(hashed(ORDER, seed, epoch, np.arange(subjects)))


def hashed(*keys: int | np.ndarray) -> np.ndarray:
    """uint64 hash of integer keys, broadcast together: splitmix64, equal on every machine and numpy version.

    Source: Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators, OOPSLA,
        doi 10.1145/2660193.2660195.
    Differs: keys are chained by addition between rounds instead of counting with the golden gamma alone.
    """
    state = np.zeros(np.broadcast_shapes(*(np.shape(key) for key in keys)), np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = state + np.asarray(key).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state
