"""`selfsight run`: ingest, pretrain, finetune, evaluate, register, report as one Prefect flow."""

from __future__ import annotations

from pathlib import Path

from domains.errors import SelfsightError
from domains.recipe import Recipe
from flows.server import shared_server
from flows.steps import VERBS, Answer, Steps
from flows.stopping import Stop, in_thread, owning_signals
from flows.tasks import as_task


def run(recipe: Recipe, source: Path, home: Path) -> Answer:
    """All verbs on a source folder; when the store has every answer, without starting a server.

    Returns:
        `model` (and `encoder`) registry URIs, `report`, `metrics`, `trivial`, `ingest` counts, `cached`.
    """
    with owning_signals() as stop:
        answer = in_thread(lambda: _from_store(recipe, source, home), stop)
        if answer is not None:
            return answer | {"cached": True}
        with shared_server(home, stopping=stop.asked):
            return in_thread(lambda: _as_flow(recipe, source, home, stop), stop) | {"cached": False}


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
    import httpx
    import prefect

    steps = Steps(recipe, source, home, stop)

    @prefect.flow(name=f"run {recipe.name}", persist_result=False, validate_parameters=False)
    def verbs(recipe: str, recipe_digest: str) -> None:
        for verb in VERBS:
            as_task(steps, verb)

    try:
        state = verbs(recipe.name, recipe.digest(), return_state=True)
    except httpx.TransportError as error:
        stop.check()
        raise SelfsightError(
            f"the Prefect server does not answer ({type(error).__name__}); what was finished is kept, the same command "
            "goes on"
        ) from None
    if not state.is_completed():
        stop.check()
        raise steps.error or RuntimeError(f"the flow ended as {state.name}: {state.message}")
    return steps.answer
