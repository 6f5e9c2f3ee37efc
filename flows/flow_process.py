"""The process of one scheduled run: Prefect's engine, which ends with the worker that started it."""

from __future__ import annotations

import os
import runpy
import sys

from domains.errors import Preempted
from flows.stopping import die_with_this_parent


def main() -> None:
    """Runs the flow run that PREFECT__FLOW_RUN_ID names."""
    die_with_this_parent(os.getppid())
    from prefect.exceptions import TerminationSignal

    try:
        runpy.run_module("prefect.engine", run_name="__main__")
    except TerminationSignal:  # Prefect has been told; work that was abandoned must not hold the process
        sys.stderr.flush()
        os._exit(Preempted.exit_code)


if __name__ == "__main__":
    main()
