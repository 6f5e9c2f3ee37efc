"""`selfsight study`: the cells of a study spread over processes, one thread each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from domains.errors import Preempted
from domains.recipe import Recipe
from flows.stopping import die_with_this_parent
from pipelines.cells import Cell, run_cell


def run_study(
    recipe: Recipe, home: Path, *, label_budgets: Sequence[int], test: Path | None = None, **planned: Any
) -> dict[str, Any]:
    """Runs a study on all cores and gives its `study.json` with the folder's paths; `planned` as in `Plan`.

    Two trainings with one thread each do 1.4 times the steps of one with two threads; cells are independent, so that
    is how the cores are shared. What two cells need both, the store computes once.
    """
    from pipelines.dataset import open_dataset
    from pipelines.finetune import notes
    from pipelines.study import study
    from pipelines.study_plan import Plan, expected_seconds, plan_cells

    workers = len(os.sched_getaffinity(0))
    manifest, labels = open_dataset(recipe, home)
    plan = Plan(label_budgets=label_budgets, **planned)
    cells = plan_cells(recipe, home, manifest, labels, plan)
    seconds = expected_seconds(recipe, home, cells, workers)
    print(f"{len(cells)} cells in {workers} processes: about {seconds / 60:.0f} minutes if none is in the store",
          file=sys.stderr, flush=True)  # fmt: skip
    for line in notes(recipe):
        print(line, file=sys.stderr, flush=True)
    with Workers(workers) as runner:
        command = " ".join(["selfsight", *sys.argv[1:]])
        studied = study(recipe, home, plan, test=test, runner=runner.run, command=command)
    return studied.result | {"study": str(studied.folder), "report": str(studied.folder / "report.html"),
                             "expected_seconds": seconds}  # fmt: skip


class Workers:
    """A pool of processes that ends with this one, however it ends."""

    def __init__(self, count: int) -> None:
        os.environ["SELFSIGHT_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that are started now
        self._pool = ProcessPoolExecutor(
            count, mp_context=get_context("spawn"), initializer=die_with_this_parent, initargs=(os.getpid(),)
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        started = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in started:
            if any(error) and process.is_alive():
                process.terminate()  # a training saves at the step's edge
        for process in started:
            process.join()

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """The cells with their results as they are done, each told on stderr; the first error ends it."""
        waiting: dict[Future[dict[str, Any]], Cell] = {self._pool.submit(_run_cell, cell): cell for cell in cells}
        done = 0
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                cell, result = waiting.pop(future), future.result()
                done += 1
                print(f"{done}/{len(cells)} {_told(cell, result)}", file=sys.stderr, flush=True)
                yield cell, result


def _run_cell(cell: Cell) -> dict[str, Any]:
    """In a worker: a training that was asked to stop has saved, and no other cell is begun."""
    try:
        return run_cell(cell)
    except Preempted:
        os._exit(Preempted.exit_code)


def _told(cell: Cell, result: dict[str, Any]) -> str:
    from domains.domain import load

    ranked_by = load(cell.recipe.domain).heads[cell.recipe.head].ranked_by
    scores = [case["score"] or 0.0 for case in result["cases"]]
    budget = "" if cell.label_budget is None else f", {cell.label_budget} labels"
    draw = f", draw {cell.draw + 1}" if cell.draw else ""
    return (
        f"{cell.arm.name}{budget}, fold {cell.fold}{draw}: mean {ranked_by} {sum(scores) / len(scores):.3f} "
        f"({result['seconds']:.0f} s)"
    )
