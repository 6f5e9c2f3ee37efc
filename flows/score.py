"""The command `score`: a folder of inputs as a Prefect flow, a task for each batch; a second run scores what is new."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import Home, Json
from flows.output import command
from flows.server import shared_server
from flows.stopping import Stop, in_thread, owning_signals

if TYPE_CHECKING:
    from pipelines.score import Plan

BATCH = 8
"""Inputs of one task."""


def score(
    model: Annotated[str, typer.Argument(help="Registry URI or folder of a model.")],
    folder: Annotated[Path, typer.Argument(help="Folder of inputs.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where predictions, records and scores.jsonl go.")],
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Predict on every input of a folder; one that this model has scored before is not scored again."""
    with command(home, as_json) as c:
        answer = score_folder(model, folder, out, c.home)
        refused = [f"refused {one['input']}: {one['refused']}" for one in answer["scores"] if "refused" in one]
        c.done(answer, f"{answer['new']} scored, {answer['before']} scored before, {len(refused)} refused", *refused,
               f"table {answer['table']}")  # fmt: skip


def score_folder(reference: str, folder: Path, out: Path, home: Path) -> dict[str, Any]:
    """Scores what of a folder has no record yet; starts no server when there is nothing to do.

    Returns:
        "new" and "before" (numbers of inputs), "table" (the path of scores.jsonl) and "scores" (its lines).
    """
    with owning_signals() as stop:
        plan = in_thread(lambda: _plan(reference, folder, out, home), stop)
        if plan.todo:
            with shared_server(home, stopping=stop.asked):
                in_thread(lambda: _as_flow(plan, stop), stop)
    from pipelines.score import TABLE, table_of

    lines = table_of(plan, [*plan.done, *(key for key, _ in plan.todo)])
    return {"new": len(plan.todo), "before": len(plan.done), "table": str(out / TABLE), "scores": lines}


def _plan(reference: str, folder: Path, out: Path, home: Path) -> Plan:
    from pipelines.registry import resolve
    from pipelines.score import plan_scoring

    return plan_scoring(resolve(home, reference), folder, out, home)


def _as_flow(plan: Plan, stop: Stop) -> None:
    """A task for each batch. Paths may name patients: Prefect gets the batch's number alone."""
    import prefect
    from prefect.cache_policies import NO_CACHE

    from pipelines.fan_out import map_files, on_ray
    from pipelines.score import score_one

    do = partial(score_one, model=plan.model, out=plan.out, home=plan.home)
    errors: list[Exception] = []

    def batch(number: int) -> None:
        try:
            inputs = plan.todo[number * BATCH : (number + 1) * BATCH]
            for _ in map_files(do, inputs) if on_ray() else map(do, inputs):
                stop.check()
        except Exception as error:
            errors.append(error)
            raise RuntimeError(f"batch {number}: {type(error).__name__}") from None

    task = prefect.task(name="score batch", cache_policy=NO_CACHE, persist_result=False, log_prints=False)(batch)

    @prefect.flow(name="score", persist_result=False, validate_parameters=False)
    def batches(inputs: int) -> None:
        for number in range(-(-inputs // BATCH)):
            task(number)

    state = batches(len(plan.todo), return_state=True)
    if not state.is_completed():
        stop.check()
        raise errors[0] if errors else RuntimeError(f"the flow ended as {state.name}: {state.message}")
