"""The worker: takes scheduled runs from the home's pool and starts a process for each. Ends with its parent."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.stopping import die_with_this_parent

ROOT = Path(__file__).parents[1]
QUERY_SECONDS = "3"


@contextmanager
def working() -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the server at PREFECT_API_URL, in a process of its own; a SIGTERM to it ends it and its runs.

    A run that is training saves first. Nothing is waited for here.
    """
    parent = os.getpid()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", QUERY_SECONDS),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.worker"], stdin=subprocess.DEVNULL, env=environment, start_new_session=True,
        preexec_fn=lambda: die_with_this_parent(parent),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def main() -> None:
    """Polls until it is ended. SIGTERM does so at once: each of its runs is told by its parent's death."""
    from prefect.workers.process import ProcessWorker

    from flows.deployments import POOL

    async def work() -> None:
        await ProcessWorker(POOL, create_pool_if_not_found=False).start(printer=lambda *_: None)

    asyncio.run(work())


if __name__ == "__main__":
    main()
