"""`selfsight run`: ingest, pretrain, finetune, evaluate, register, report as one Prefect flow."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from domains.errors import Preempted
from domains.recipe import Recipe
from flows.server import shared_server
from flows.stopping import Stop, in_thread, owning_signals
from flows.trainer import train_apart

VERBS = ("ingest", "pretrain", "finetune", "evaluate", "register", "report")
TRANSIENT = {errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED}
RETRY_DELAYS_SECONDS = [2.0, 15.0]

Answer = dict[str, Any]


def run(recipe: Recipe, source: Path, home: Path) -> Answer:
    """All verbs on a source folder; when the store has every answer, without starting a server.

    Returns:
        `model` (and `encoder`) registry URIs, `report`, `metrics`, `trivial`, `ingest` counts, `cached`.
    """
    with owning_signals() as stop:
        answer = in_thread(lambda: _from_store(recipe, source, home), stop)
        if answer is not None:
            return answer | {"cached": True}
        with shared_server(home, stopping=stop.asked) as url:
            os.environ["PREFECT_API_URL"] = url
            return in_thread(lambda: _as_flow(recipe, source, home, stop), stop) | {"cached": False}


class Steps:
    """The verbs of one run, in order; between them travel paths and digests, kept as plain JSON values."""

    def __init__(self, recipe: Recipe, source: Path, home: Path, stop: Stop | None) -> None:
        self._recipe, self._source, self._home, self._stop = recipe, source, home, stop
        self.answer: Answer = {}
        self.error: Exception | None = None

    def do(self, verb: str) -> None:
        """Runs one verb with what the verbs before it gave."""
        if self._stop is not None:
            self._stop.check()
        step: Callable[[], Answer] = getattr(self, f"_{verb}")
        self.answer |= step()

    def _ingest(self) -> Answer:
        from pipelines.ingest import ingest

        taken = ingest(self._source, self._recipe, self._home)
        refused = [{"file": file, "reason": reason} for file, reason in taken.refused]
        return {
            "ingest": taken.counts, "refused_files": refused, "notes": taken.notes, "manifest": str(taken.manifest),
        }  # fmt: skip

    def _pretrain(self) -> Answer:
        if self._stop is None:
            from pipelines.pretrain import pretrain

            return {"encoder_folder": str(pretrain(self._recipe, self._home, data=self._manifest).folder)}
        options = ("--data", str(self._manifest))
        return {"encoder_folder": self._trained("pretrain", *options)}

    def _finetune(self) -> Answer:
        encoder = self.answer["encoder_folder"]
        if self._stop is None:
            from pipelines.finetune import finetune

            trained = finetune(self._recipe, self._home, encoder=Path(encoder), data=self._manifest)
            return {"model_folder": str(trained.folder)}
        options = ("--data", str(self._manifest), "--encoder", encoder)
        return {"model_folder": self._trained("finetune", *options)}

    def _evaluate(self) -> Answer:
        from pipelines.evaluate import evaluate

        judged = evaluate(Path(self.answer["model_folder"]), self._home).to_json()
        kept = ("evaluation", "metrics", "trivial", "paired", "primary", "summary")
        return {key: judged[key] for key in kept if key in judged}

    def _register(self) -> Answer:
        from pipelines.register import register

        registered = register(Path(self.answer["evaluation"]), self._home)
        return {"model": registered.model, "encoder": registered.encoder}

    def _report(self) -> Answer:
        from pipelines.report import write_report

        return {"report": str(write_report(self._home, evaluation=Path(self.answer["evaluation"])))}

    @property
    def _manifest(self) -> Path:
        return Path(self.answer["manifest"])

    def _trained(self, verb: str, *options: str) -> str:
        assert self._stop is not None
        answer = train_apart(verb, *options, recipe=self._recipe, home=self._home, stop=self._stop)
        return str(answer["folder"])


def _from_store(recipe: Recipe, source: Path, home: Path) -> Answer | None:
    """The answer of a run whose every verb is a hit, or None at the first miss."""
    from domains.store import Missing, Store
    from pipelines.dataset import find_dataset

    if find_dataset(recipe, home) is None:
        return None
    steps = Steps(recipe, source, home, stop=None)
    try:
        with Store.only_looking():
            for verb in VERBS:
                steps.do(verb)
    except Missing:
        return None
    return steps.answer


def _as_flow(recipe: Recipe, source: Path, home: Path, stop: Stop) -> Answer:
    """The same verbs as tasks of a flow. Paths and messages may name patients: Prefect gets neither."""
    import prefect
    from prefect.cache_policies import NO_CACHE

    steps = Steps(recipe, source, home, stop)

    def do(verb: str) -> None:
        try:
            steps.do(verb)
        except Exception as error:
            steps.error = error
            raise RuntimeError(f"{verb}: {type(error).__name__}") from None

    # The store is the cache, so Prefect keeps no results; a stopped or refused run must not be tried again.
    options: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "log_prints": False}
    options |= {"retries": len(RETRY_DELAYS_SECONDS), "retry_delay_seconds": RETRY_DELAYS_SECONDS}
    options |= {"retry_condition_fn": lambda task, task_run, state: _transient(steps.error)}

    @prefect.flow(name=f"run {recipe.name}", persist_result=False, validate_parameters=False)
    def verbs(recipe: str, recipe_digest: str) -> None:
        for verb in VERBS:
            prefect.task(**options, name=verb)(do)(verb)

    state = verbs(recipe.name, recipe.digest(), return_state=True)
    if not state.is_completed():
        stop.check()
        raise steps.error or RuntimeError(f"the flow ended as {state.name}: {state.message}")
    return steps.answer


def _transient(error: Exception | None) -> bool:
    """Whether trying again may help: a fault of a disk or network, not of the data, the recipe or the code."""
    return isinstance(error, OSError) and error.errno in TRANSIENT and not isinstance(error, Preempted)
