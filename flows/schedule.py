"""The command `schedule`: keeps a home's Prefect server, its deployments and a worker alive until somebody stops it."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from domains.errors import SelfsightError, UsageError
from flows.options import Home, Json, RecipeFile, Set, recipe_of
from flows.output import command
from flows.stopping import SAVE_SECONDS, Stop, owning_signals

if TYPE_CHECKING:
    from flows.schedules import Schedule

LOOK_SECONDS = 1.0
SOON_SECONDS = 30.0
"""A worker that ends sooner than this is not started a third time."""
PR_SET_CHILD_SUBREAPER = 36


def schedule(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="What to run. Without it: the schedules that the home has.", show_default=False)] = None,  # noqa: E501
    source: Annotated[Path | None, typer.Argument(metavar="SOURCE", help="Folder in which new raw files appear.", show_default=False)] = None,  # noqa: E501
    cron: Annotated[str | None, typer.Option(metavar="CRON", help='When, e.g. "0 2 * * *" for every night at two.', show_default=False)] = None,  # noqa: E501
    every: Annotated[float | None, typer.Option(metavar="SECONDS", min=1, help="Or how often.", show_default=False)] = None,  # noqa: E501
    drift_cron: Annotated[str | None, typer.Option(metavar="CRON", help="When to look whether new files differ; an alarm starts a run.", show_default=False)] = None,  # noqa: E501
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of the cron lines, e.g. Europe/Berlin.")] = "UTC",
    list_them: Annotated[bool, typer.Option("--list", help="Only say which schedules the home has.")] = False,
    remove: Annotated[str | None, typer.Option(metavar="RECIPE", help="Only forget this one; a running worker does too.", show_default=False)] = None,  # noqa: E501
    home: Home = None, as_json: Json = False, changes: Set = None, recipe_file: RecipeFile = None,
) -> None:  # fmt: skip
    """Run a recipe again and again on what is new in a folder: starts Prefect's server and a worker, until Ctrl-C."""
    with command(home, as_json) as c:
        from flows.schedules import keep_schedule, remove_schedule, schedules_of

        if remove is not None:
            remove_schedule(c.home, remove)
        if recipe is not None:
            if source is None or (cron is None) == (every is None):
                raise UsageError("a schedule needs RECIPE, SOURCE, and either --cron or --every")
            _refuse_bad_times(cron, drift_cron, timezone)
            keep_schedule(
                recipe_of(recipe, changes, recipe_file), source, c.home, cron=cron, every_seconds=every,
                drift_cron=drift_cron, timezone=timezone,
            )  # fmt: skip
        known = schedules_of(c.home)
        answer = {"schedules": [one.model_dump(mode="json", exclude={"recipe"}) for one in known]}
        lines = [f"{one.name:<18} {one.said()}" for one in known] or ["no schedule in this home"]
        if list_them or remove is not None:
            return c.done(answer, *lines)
        if not known:
            raise UsageError('nothing to run: selfsight schedule RECIPE SOURCE --cron "0 2 * * *"')
        print(*lines, sep="\n", file=sys.stderr, flush=True)
        keep_running(c.home)
        c.done(answer, "stopped; what was finished is kept, and a training that was going on is saved")


def keep_running(home: Path) -> None:
    """Server, deployments and worker, each made anew when it is gone, until SIGTERM or Ctrl-C; leaves no process.

    Raises:
        SelfsightError: the server does not start, or a worker ends as soon as it has begun, twice.
    """
    ctypes.CDLL(None).prctl(
        PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
    )  # the runs of a killed worker become this one's children
    failed = 0
    with owning_signals() as stop:
        try:
            while not stop.asked():
                lived = _serve_once(home, stop)
                failed = failed + 1 if lived < SOON_SECONDS else 0
                if failed > 1 and not stop.asked():
                    raise SelfsightError(f"the worker ended twice as soon as it had begun; see {home / 'prefect'}")
        finally:
            _leave_nobody()


def _serve_once(home: Path, stop: Stop) -> float:
    """One life of server and worker together; gives the seconds it lasted."""
    from flows.schedules import schedules_of
    from flows.server import shared_server
    from flows.worker import working

    own = "PREFECT_API_URL" not in os.environ
    with shared_server(home, stopping=stop.asked) as url:
        deployed = _deploy(home, own)
        with working() as worker:
            started = time.monotonic()
            print(f"worker and server {url} are up; Ctrl-C ends both", file=sys.stderr, flush=True)
            while not stop.asked() and worker.poll() is None:
                time.sleep(LOOK_SECONDS)
                if schedules_of(home) != deployed:
                    deployed = _deploy(home, own)
        _leave_nobody()
        return time.monotonic() - started


def _deploy(home: Path, own: bool) -> list[Schedule]:
    from flows.deployments import deploy
    from flows.schedules import schedules_of

    known = schedules_of(home)
    deploy(known, home, only=own)
    return known


def _refuse_bad_times(cron: str | None, drift_cron: str | None, timezone: str) -> None:
    from flows.deployments import cron as checked

    for line in (cron, drift_cron):
        if line is not None:
            checked(line, timezone)


def _leave_nobody() -> None:
    """Waits for the runs of a worker that has ended: they save. What has not in time is killed.

    The server, which other processes may use, has a rule of its own for its end.
    """
    import psutil

    deadline = time.monotonic() + SAVE_SECONDS
    while left := [one for one in psutil.Process().children(recursive=True) if not _is_server(one)]:
        for one in left:
            if time.monotonic() > deadline:
                one.kill()
        psutil.wait_procs(left, timeout=0.5)


def _is_server(process: object) -> bool:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return "flows.server" in process.cmdline() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
