"""Labels that nobody drew: a domain's proposals, or the masks of a model, written as label entries to train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from domains.domain import load
from domains.errors import UsageError
from domains.head import Head, Prediction
from domains.manifest import Contract, Subject
from domains.recipe import Recipe
from domains.store import Store
from pipelines.models import Loaded, predictor
from pipelines.progress import Progress


def proposals(
    store: Store, recipe: Recipe, contract: Contract, subjects: Sequence[Subject], *, shuffled: bool = False
) -> list[Path]:
    """Label entries of what the head's `propose` guesses for these subjects, in their order; no label is read.

    Args:
        store: has the subjects, and takes the masks.
        recipe: whose head proposes.
        contract: how the subjects were prepared.
        subjects: any.
        shuffled: each gets the guess for the next one, stretched to its own shape: a negative control.

    Raises:
        UsageError: the head has no proposals.
    """
    head = _head(recipe)
    if head.propose is None:
        raise UsageError(f"the objective proposals needs a head that can propose, and {head.name} cannot")
    propose = head.propose
    if not shuffled:
        return _written(store, head, contract, subjects, "proposal", lambda entry: propose(entry, contract))
    entries = [store.path("ingest", subject.entry) for subject in subjects]
    following = dict(zip(entries, entries[1:] + entries[:1], strict=True))

    def of_the_next(entry: Path) -> Prediction:
        shape = propose(entry, contract).shape[1:]
        return F.interpolate(torch.from_numpy(propose(following[entry], contract))[None], shape)[0].numpy()

    origin = ["shuffled", *sorted(subject.entry for subject in subjects)]
    return _written(store, head, contract, subjects, origin, of_the_next)


def masks_of(store: Store, teacher: Loaded, subjects: Sequence[Subject]) -> list[Path]:
    """Label entries of what the model `teacher` predicts for these subjects, in their order."""
    head, origin = _head(teacher.recipe), teacher.info["sha256"]
    return _written(store, head, teacher.contract, subjects, origin, predictor(teacher))


def _head(recipe: Recipe) -> Head:
    head = load(recipe.domain).heads[recipe.head]
    if head.write_mask is None:
        raise UsageError(f"the head {head.name} cannot write masks to train on")
    return head


def _written(
    store: Store,
    head: Head,
    contract: Contract,
    subjects: Sequence[Subject],
    origin: Any,
    guess: Callable[[Path], Prediction],
) -> list[Path]:
    """One entry of stage "pseudo" a subject; those that exist are not computed again."""
    write_mask = head.write_mask
    assert write_mask is not None

    def write(subject: Subject, out: Path) -> dict[str, Any]:
        entry = store.path("ingest", subject.entry)
        write_mask(guess(entry), entry, out, contract)
        return {"origin": str(origin)}

    folders = []
    with Progress(f"masks of {head.name}", len(subjects), unit="subjects") as progress:
        for subject in subjects:
            key = store.key("pseudo", [head.name, origin, subject.entry, contract.input_rules()])
            folders.append(store.build("pseudo", key, partial(write, subject)))
            progress.advance(1)
    return folders
