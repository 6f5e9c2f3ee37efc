"""What a Prefect server has to know of a home: work pool, limit, watch over dead runs, and a deployment a flow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.errors import UsageError
from domains.store import locked
from flows.schedules import Schedule

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL, GPU, ZOMBIES, TAG = "selfsight", "gpu", "crash zombies", "selfsight"
NIGHTLY, DRIFT = "nightly", "drift"
DEAD_AFTER_SECONDS = 100.0
"""Without a heartbeat; they come every 30 s, and three may be missed."""
NEVER_MORE_THAN_ONE = 1


def deploy(schedules: Sequence[Schedule], home: Path, *, only: bool) -> None:
    """Makes the server at PREFECT_API_URL run these schedules, in the place of those it had by the same names.

    Args:
        schedules: of the home.
        home: two processes on it take turns.
        only: deployments of other names are removed: for the home's own server.
    """
    from prefect.client.orchestration import get_client

    with locked(home / "locks" / "schedule"), get_client(sync_client=True) as client:
        _pool(client)
        _gpu_limit(client)
        watch_over_dead_runs(client)
        for one in schedules:
            parameters = {"schedule": one.name}
            _deployment(client, f"flows.scheduled.{NIGHTLY}", NIGHTLY, one.name, parameters, when(one))
            drift = cron(one.drift_cron, one.timezone) if one.drift_cron else None
            _deployment(client, f"flows.scheduled.{DRIFT}", DRIFT, one.name, parameters, drift)
        if only:
            names = {one.name for one in schedules}
            for there in client.read_deployments():
                if TAG in there.tags and there.name not in names:
                    client.delete_deployment(there.id)


def deploy_one(entrypoint: str, flow: str, name: str, every_seconds: float) -> None:
    """The pool, and one deployment of a flow without parameters: what `selfsight doctor --schedule` tries."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        _pool(client)
        _deployment(client, entrypoint, flow, name, {}, _interval(every_seconds))


def when(schedule: Schedule) -> Any:
    """Prefect's form of a schedule's time.

    Raises:
        UsageError: not a cron line, or not a time zone.
    """
    if schedule.cron is not None:
        return cron(schedule.cron, schedule.timezone)
    assert schedule.every_seconds is not None
    return _interval(schedule.every_seconds)


def cron(line: str, timezone: str) -> Any:
    """Prefect's form of a cron line.

    Raises:
        UsageError: not a cron line, or not a time zone.
    """
    from prefect.client.schemas.schedules import CronSchedule

    try:
        return CronSchedule(cron=line, timezone=timezone)
    except ValueError:
        raise UsageError(
            f"not a schedule: {line!r} in time zone {timezone!r}; write minute, hour, day of month, month and day of "
            'week, as "0 2 * * *", and a zone as Europe/Berlin'
        ) from None


def _interval(seconds: float) -> Any:
    from prefect.client.schemas.schedules import IntervalSchedule

    # a fixed anchor: deployed again, it goes on firing at the same times
    return IntervalSchedule(interval=timedelta(seconds=seconds), anchor_date=datetime(2020, 1, 1, tzinfo=UTC))


def _pool(client: SyncPrefectClient) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    with suppress(ObjectAlreadyExists):
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def _gpu_limit(client: SyncPrefectClient) -> None:
    """As many trainings at a time as there are GPUs, or one; a limit that is there is left as somebody set it."""
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_global_concurrency_limit_by_name(GPU)
    except ObjectNotFound:
        import torch

        limit = max(1, torch.cuda.device_count())
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=limit))


def watch_over_dead_runs(client: SyncPrefectClient, within_seconds: float = DEAD_AFTER_SECONDS) -> None:
    """A run without a heartbeat for so long is marked as crashed: Prefect does not do so by itself."""
    from prefect.automations import AutomationCore, EventTrigger, Posture
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    if client.read_automations_by_name(ZOMBIES):
        return
    heartbeat = "prefect.flow-run.heartbeat"
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    trigger = EventTrigger(
        after={heartbeat}, expect={heartbeat, *ends}, match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"}, posture=Posture.Proactive, threshold=1,
        within=timedelta(seconds=within_seconds),
    )  # fmt: skip
    dead = "no heartbeat: its process is dead"
    mark = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=dead, force=False)
    client.create_automation(AutomationCore(name=ZOMBIES, description="", trigger=trigger, actions=[mark]))


def _deployment(
    client: SyncPrefectClient, entrypoint: str, flow: str, name: str, parameters: dict[str, str], schedule: Any
) -> None:
    """One run at a time; a run that comes while another is at work is cancelled, since it would find nothing new."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions

    client.create_deployment(
        client.create_flow_from_name(flow), name, entrypoint=entrypoint, parameters=parameters, work_pool_name=POOL,
        schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)] if schedule else [],
        concurrency_limit=NEVER_MORE_THAN_ONE,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        job_variables={"command": f"{sys.executable} -m flows.flow_process"}, tags=[TAG],
        enforce_parameter_schema=False,
    )  # fmt: skip
