"""`selfsight doctor --schedule`: a scratch server, a flow that does nothing every few seconds, and a wait for its run.

There are faults that leave everything working but this: with SQLAlchemy 2.1 a deployment is served, its page shows when
the next run is due, and no run is ever made.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from domains.errors import SelfsightError
from flows.settings import prepare_environment
from flows.stopping import Stop

EVERY_SECONDS = 5.0
LOOK_SECONDS = 0.5
WITHIN_SECONDS = 120.0
"""After the server is up; a run that is made starts within a dozen."""


def prove_that_schedules_fire(stop: Stop, *, within_seconds: float = WITHIN_SECONDS) -> dict[str, float]:
    """Seconds until the server was up, and from then until a scheduled run had completed.

    Everything happens in a temporary home, whose environment this process has from then on; Prefect, which reads it
    once, must not have been imported before.

    Raises:
        SelfsightError: none did; the text says how far it came, and what may be wrong.
    """
    from flows.deployments import deploy_one
    from flows.server import shared_server
    from flows.worker import working

    os.environ.pop("PREFECT_API_URL", None)  # whatever server there is elsewhere: this one is a scratch one
    os.environ["PREFECT_WORKER_QUERY_SECONDS"] = "2"
    with tempfile.TemporaryDirectory(prefix="selfsight-doctor-") as scratch:
        prepare_environment(Path(scratch))
        began = time.monotonic()
        with shared_server(Path(scratch), stopping=stop.asked):
            up = time.monotonic()
            deploy_one("flows.scheduled.tick", "tick", "doctor", EVERY_SECONDS)
            with working() as worker:
                _wait_for_a_run(stop, within_seconds, worker)
                fired = time.monotonic()
            return {"server_seconds": up - began, "fired_seconds": fired - up}


def _wait_for_a_run(stop: Stop, within_seconds: float, worker: Any) -> None:
    from prefect.client.orchestration import get_client

    deadline, states = time.monotonic() + within_seconds, set()
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline and worker.poll() is None:
            stop.check()
            runs = client.read_flow_runs(limit=100)
            states = {run.state_name or "" for run in runs if run.auto_scheduled}
            if "Completed" in states:
                return
            time.sleep(LOOK_SECONDS)
    if worker.poll() is not None:
        raise SelfsightError(f"the worker ended with code {worker.returncode} before a scheduled run had completed")
    if not states:
        raise SelfsightError(
            f"schedules do not fire: within {within_seconds:.0f} s the Prefect server made no run of a deployment that "
            f"is due every {EVERY_SECONDS:.0f} s. Its scheduler is off or broken, as with sqlalchemy 2.1: install "
            "sqlalchemy<2.1 and see `selfsight doctor`"
        )
    raise SelfsightError(
        f"schedules fire, but within {within_seconds:.0f} s no run completed (they are {', '.join(sorted(states))}): "
        "the worker cannot start its processes, or they cannot reach the server"
    )
