"""Who owns SIGTERM and Ctrl-C: the main thread of a run; the work runs in another, trainers in processes of their own.

A signal that raises inside Prefect's engine, or inside a library's C code, leaves orphans. Here the signal only sets
a flag and is forwarded to the trainer's process group. The work then ends by itself: the trainer saves at the step's
edge. Work that cannot be interrupted is abandoned, which is safe: a store entry exists whole or not at all.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from types import FrameType
from typing import TypeVar

from domains.errors import Preempted

Result = TypeVar("Result")

SAVE_SECONDS = 120.0
"""How long a trainer may take to save before it is killed."""
BURST_SECONDS = 1.0
"""Signals this close together are one request: a dying parent sends its death signal once a thread."""
LEAVE_SECONDS = 1.0
"""How long other work may take to notice."""
PARENT = "SELFSIGHT_PARENT"
PR_SET_PDEATHSIG = 1


class Stop:
    """Whether somebody asked to stop, and the trainer to tell."""

    def __init__(self) -> None:
        self._asked_at: float | None = None
        self._trainer: subprocess.Popen[str] | None = None

    def asked(self) -> bool:
        return self._asked_at is not None

    def check(self) -> None:
        """Raises Preempted when asked to stop: called between verbs."""
        if self.asked():
            raise Preempted("stopped; what was finished is kept, the same command goes on")

    @contextmanager
    def forwarding_to(self, trainer: subprocess.Popen[str]) -> Iterator[None]:
        """Meanwhile a stop is forwarded to the trainer's process group; nothing of the group is left afterwards."""
        self._trainer = trainer
        if self.asked():
            _signal_group(trainer, signal.SIGTERM)
        try:
            yield
        finally:
            self._trainer = None
            _signal_group(trainer, signal.SIGKILL)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        trainer, now = self._trainer, time.monotonic()
        if trainer is not None and not self.asked():
            _signal_group(trainer, signal.SIGTERM)
        if self._asked_at is None:
            self._asked_at = now
        elif trainer is not None and now - self._asked_at > BURST_SECONDS:
            _signal_group(trainer, signal.SIGKILL)

    def _overdue(self) -> bool:
        if self._asked_at is None:
            return False
        waited, trainer = time.monotonic() - self._asked_at, self._trainer
        if trainer is not None:
            if waited > SAVE_SECONDS:
                _signal_group(trainer, signal.SIGKILL)
            return False
        return waited > LEAVE_SECONDS


@contextmanager
def owning_signals() -> Iterator[Stop]:
    """SIGTERM and Ctrl-C set a flag; a second one kills the trainer. Main thread only."""
    stop = Stop()
    before = {number: signal.signal(number, stop._ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def in_thread(work: Callable[[], Result], stop: Stop) -> Result:
    """What `work` returns or raises, from a thread with this one's context, while this one stays free for signals.

    Raises:
        Preempted: asked to stop, and `work` did not end by itself: the process must be left at once.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=copy_context().run, args=(body,), name="run", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if thread.is_alive() and stop._overdue():
            raise Preempted("stopped; what was finished is kept, the same command goes on")
    if errors:
        raise errors[0]
    return results[0]


def is_trainer() -> bool:
    """Whether this process was started by a run to train."""
    return PARENT in os.environ


def die_with_parent() -> None:
    """A trainer is asked to save and leave when the run that started it dies, however it dies."""
    if not is_trainer():
        return
    die_with_this_parent(int(os.environ[PARENT]))


def die_with_this_parent(parent: int) -> None:
    """SIGTERM comes when the process `parent`, which started this one, dies."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(Preempted.exit_code)


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
