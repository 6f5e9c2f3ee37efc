"""One verb as a Prefect task: what may be tried again is, and Prefect learns neither paths nor messages."""

from __future__ import annotations

import errno
from typing import Any

from domains.errors import Unreachable
from flows.steps import Steps

TRANSIENT = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED}
RETRY_DELAYS_SECONDS = [2.0, 15.0]


def as_task(steps: Steps, verb: str) -> None:
    """Runs a verb of `steps` as a task of the flow that is running.

    The store is the cache, so Prefect keeps no results. A fault that can pass (of a disk or network) is tried again;
    a stopped run, refused data, a diverged training or a bug is not.

    Raises:
        RuntimeError: names the verb and the kind of error only; `steps.error` is the error itself.
    """
    import prefect
    from prefect.cache_policies import NO_CACHE

    def do() -> None:
        steps.error = None
        try:
            steps.do(verb)
        except Exception as error:
            steps.error = error
            raise RuntimeError(f"{verb}: {type(error).__name__}") from None

    options: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "log_prints": False}
    options |= {"retries": len(RETRY_DELAYS_SECONDS), "retry_delay_seconds": RETRY_DELAYS_SECONDS}
    options |= {"retry_condition_fn": lambda task, task_run, state: transient(steps.error)}
    prefect.task(**options, name=verb)(do)()


def transient(error: Exception | None) -> bool:
    """Whether trying again may help: a fault of a disk or network, not of the data, the recipe or the code."""
    return isinstance(error, Unreachable) or (isinstance(error, OSError) and error.errno in TRANSIENT)
