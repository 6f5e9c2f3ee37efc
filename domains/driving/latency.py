"""How long each step takes a frame, as percentiles of a histogram: it stays small however many frames there are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
PER_SECOND = 20_000
"""Steps of the histogram: 0.05 ms."""
PERCENTILES = (50, 95, 99)


class Latency:
    """Seconds a frame, by step."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[int]] = {}

    def add(self, step: str, seconds: float, frames: int) -> None:
        """Counts frames that took so many seconds together."""
        self._counts.setdefault(step, Counter())[round(seconds / frames * PER_SECOND)] += frames

    def timed(self, step: str, items: Iterable[Item], frames: Callable[[Item], int]) -> Iterator[Item]:
        """The same items; counts what making each takes."""
        iterator = iter(items)
        while True:
            started = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self.add(step, time.perf_counter() - started, frames(item))
            yield item

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Step -> "p50", "p95", "p99" in ms."""
        return {
            step: {f"p{q}": _percentile(counts, q / 100) for q in PERCENTILES} for step, counts in self._counts.items()
        }


def _percentile(counts: Counter[int], share: float) -> float:
    """The smallest value that at least this share of the frames do not exceed, in ms."""
    wanted, seen = share * counts.total(), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return round(value / PER_SECOND * 1000, 2)
    raise AssertionError("nothing was counted")
