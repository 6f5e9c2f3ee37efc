"""The verbs of one whole run, in order: what `selfsight run` and a scheduled run do, without Prefect."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.recipe import Recipe
from domains.store import Missing, Store
from flows.stopping import Stop
from flows.trainer import train_apart

if TYPE_CHECKING:
    from pipelines.pretrain import Trained

VERBS = ("ingest", "pretrain", "finetune", "evaluate", "register", "report")

Answer = dict[str, Any]


class Steps:
    """The verbs of one run, in order; between them travel paths and digests, kept as plain JSON values."""

    def __init__(
        self, recipe: Recipe, source: Path, home: Path, stop: Stop | None, *, continued: bool = False,
        slot: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:  # fmt: skip
        """Steps of a run.

        Args:
            recipe: of all verbs.
            source: folder with raw files.
            home: where everything is kept.
            stop: asked between verbs; None only looks up what the store has.
            continued: pretraining starts from the recipe's last encoder.
            slot: held while something trains.
        """
        self._recipe, self._source, self._home, self._stop = recipe, source, home, stop
        self._continued, self._slot = continued, slot
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
        from pipelines.pretrain import pretrain

        options = ("--data", str(self._manifest), *(["--continue"] if self._continued else []))
        look = partial(pretrain, self._recipe, self._home, data=self._manifest, continued=self._continued)
        return {"encoder_folder": self._found_or_trained("pretrain", look, options, self._recipe.devices)}

    def _finetune(self) -> Answer:
        from pipelines.finetune import DEVICES, finetune, notes

        encoder = self.answer["encoder_folder"]
        look = partial(finetune, self._recipe, self._home, encoder=Path(encoder), data=self._manifest)
        options = ("--data", str(self._manifest), "--encoder", encoder)
        folder = self._found_or_trained("finetune", look, options, DEVICES)
        return {"model_folder": folder, "notes": [*self.answer["notes"], *notes(self._recipe)]}

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

    def _found_or_trained(self, verb: str, look: Callable[[], Trained], options: tuple[str, ...], count: int) -> str:
        """The folder of what is in the store, or of what a process of its own trains on `count` devices."""
        if self._stop is None:
            return str(look().folder)
        with suppress(Missing), Store.only_looking():
            return str(look().folder)
        with self._slot():
            answer = train_apart(verb, *options, recipe=self._recipe, count=count, home=self._home, stop=self._stop)
        return str(answer["folder"])
