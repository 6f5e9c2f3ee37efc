"""Progress: a bar with time left on a terminal, a plain line every few seconds elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

LINE_EVERY_SECONDS = 5.0


class Progress:
    """How far a loop is. Use as a context manager and call `advance` once per step.

    Args:
        label: what is running, e.g. "pretrain".
        total: units in all.
        unit: name of a unit in the plural.
        done: units that were done before, e.g. by the run that is resumed.
        shown: False says nothing, as in all ranks of a training but the first.
    """

    def __init__(self, label: str, total: int, unit: str = "steps", done: int = 0, shown: bool = True) -> None:
        self.label, self.total, self.unit, self.shown = label, total, unit, shown
        self.done = self._done_before = done
        self._figures: dict[str, float | str] = {}
        self._bar: Any = None

    def __enter__(self) -> Progress:
        self._started = self._last_line = time.monotonic()
        if self.shown and sys.stderr.isatty():
            self._bar = self._make_bar()
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.done, text="")
        return self

    def advance(self, n: int = 1, **figures: float | str) -> None:
        """`n` more units are done; `figures` (loss=0.12) are shown until replaced."""
        self.done += n
        self._figures |= figures
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, text=self._text())
        elif time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
            self._line()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._line()

    def rate(self) -> float:
        """Units per second since this progress began."""
        return (self.done - self._done_before) / max(time.monotonic() - self._started, 1e-9)

    def _text(self) -> str:
        shown = [f"{self.rate():.3g} {self.unit}/s"]
        shown += [
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in self._figures.items()
        ]
        return "  ".join(shown)

    def _line(self) -> None:
        self._last_line = time.monotonic()
        if not self.shown:
            return
        left = (self.total - self.done) / self.rate() if self.rate() else 0.0
        time_left = f"  {_clock(left)} left" if self.done < self.total else ""
        print(
            f"{self.label}: {self.done}/{self.total} {self.unit}  {self._text()}{time_left}",
            file=sys.stderr,
            flush=True,
        )

    @staticmethod
    def _make_bar() -> Any:
        from rich import progress
        from rich.console import Console

        return progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[text]}"),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
