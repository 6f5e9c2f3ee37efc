"""The flows that a schedule starts, by the name of the schedule: `nightly`, `drift`. Prefect learns no path."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

from prefect import flow
from prefect.concurrency.sync import concurrency
from prefect.exceptions import TerminationSignal

from domains.errors import NothingUsable, Preempted, SelfsightError
from domains.recipe import Recipe
from flows.deployments import GPU, NIGHTLY
from flows.schedules import work_of
from flows.settings import find_home, prepare_environment
from flows.steps import VERBS, Steps
from flows.stopping import Stop, in_thread, owning_signals
from flows.tasks import as_task

LEASE_SECONDS = 60.0
"""How long the slot of a killed run stays taken; the least that Prefect allows."""

Result = TypeVar("Result")


@flow(name=NIGHTLY, persist_result=False, validate_parameters=False)
def nightly(schedule: str) -> None:
    """New files are ingested, the last encoder goes on learning, a model is fine-tuned, judged and registered."""
    from flows.artifacts import Progress, show_figures

    def work(recipe: Recipe, source: Path, home: Path, stop: Stop) -> None:
        steps = Steps(recipe, source, home, stop, continued=True, slot=gpu_slot)
        progress = Progress(schedule, VERBS)
        for verb in VERBS:
            progress.begins(verb)
            _told(partial(as_task, steps, verb), steps)
        progress.ends()
        show_figures(schedule, steps.answer, home)

    _run(schedule, work)


@flow(name="drift", persist_result=False, validate_parameters=False)
def drift(schedule: str) -> None:
    """New files are compared with the training data; an alarm starts `nightly`, which trains on both."""
    from flows.artifacts import show_drift

    def work(recipe: Recipe, source: Path, home: Path, stop: Stop) -> None:
        from pipelines.drift import drift as verb

        try:
            found = verb(recipe, home, source=source)
        except NothingUsable as error:  # nothing new is the usual answer
            print(f"drift {schedule}: {error}", file=sys.stderr, flush=True)
            return
        show_drift(schedule, found.result, found.picture)
        if found.alarm:
            from prefect.deployments import run_deployment

            run_deployment(f"{NIGHTLY}/{schedule}", timeout=0, as_subflow=False)

    _run(schedule, work)


@flow(name="tick", persist_result=False)
def tick() -> None:
    """Does nothing, when it is time (see `flows.schedule_check`)."""


def gpu_slot() -> AbstractContextManager[None]:
    """One slot of the limit "gpu" of the Prefect server, held while something trains.

    A lease that cannot be renewed for a while (the server is away) does not stop the training: the device's own lock
    still holds (`flows.devices`).
    """
    return concurrency(GPU, lease_duration=LEASE_SECONDS, strict=True, raise_on_lease_renewal_failure=False)


def _run(schedule: str, work: Callable[[Recipe, Path, Path, Stop], None]) -> None:
    """Does the work of a schedule; a SIGTERM is what Prefect calls a termination, after the trainer has saved."""
    home = find_home()
    prepare_environment(home)
    recipe, source = _named(lambda: work_of(home, schedule))
    try:
        with owning_signals() as stop:
            in_thread(lambda: _named(lambda: work(recipe, source, home, stop)), stop)
    except Preempted:
        raise TerminationSignal(signal.SIGTERM) from None


def _told(task: Callable[[], None], steps: Steps) -> None:
    """Runs a task; the terminal is told what went wrong, Prefect only that it did."""
    try:
        task()
    except RuntimeError:
        if steps.error is not None and not isinstance(steps.error, Preempted):
            print(f"error: {steps.error}", file=sys.stderr, flush=True)
        if isinstance(steps.error, Preempted):
            raise steps.error from None
        raise


def _named(work: Callable[[], Result]) -> Result:
    """What `work` gives; of its error, whose text may name files, Prefect gets the kind."""
    try:
        return work()
    except Preempted:
        raise
    except SelfsightError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise RuntimeError(type(error).__name__) from None
