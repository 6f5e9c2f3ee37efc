"""hand_out: the subjects that `next` chose -> a folder to draw labels in, with drafts; ingest takes the answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from domains.domain import Candidate, Case, Domain, load
from domains.errors import ContractMismatch, Refused, UsageError
from domains.head import Prediction
from domains.identity import Identity, key_file
from domains.manifest import Contract, Subject
from domains.recipe import Recipe
from domains.store import Store
from pipelines.dataset import open_dataset
from pipelines.models import open_model, predictor
from pipelines.next import Suggestion
from pipelines.progress import Progress
from pipelines.registry import list_models, resolve

README = "README.txt"
Guess = Callable[[Path], Prediction]
"""Subject entry -> what may be there."""


@dataclass(frozen=True)
class Handed:
    """One case as it was handed out; with names, for the terminal and the folder only."""

    subject_id: str
    case: str
    why: str
    answer: str
    """Path below the folder where the label is expected."""
    draft: str
    """Path of the draft, "" where there is none."""


def hand_out(found: Suggestion, recipe: Recipe, home: Path, out: Path) -> list[Handed]:
    """Writes the chosen subjects with their images, drafts and a README into a new folder.

    Names and images are the source's own: the folder is for those who may see the archive itself.

    Args:
        found: what to label next.
        recipe: whose newest data they are of.
        home: the store.
        out: a folder that is not there or is empty.

    Raises:
        UsageError: the folder is not empty, the key that knows the files is not here, or a file is gone or has changed.
    """
    domain = load(recipe.domain)
    if domain.hand_out is None:
        raise UsageError(f"cases of the domain {domain.name} cannot be handed out: label the files that whois names")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder: cases go into a new one, so that nothing drawn is overwritten")
    chosen = [(subject, choice) for _, subjects, choice in found.choices for subject in subjects]
    subjects = [subject for subject, _ in chosen]
    candidates = _candidates(subjects, recipe, domain)
    folders = _folders([candidate.name for candidate in candidates])
    store, contract = Store(home), open_dataset(recipe, home)[0].contract
    guess, by = _guess(recipe, home, contract, found)
    cases = []
    with Progress(f"hand out {recipe.name}", len(chosen), unit="subjects") as progress:
        for folder, candidate, subject in zip(folders, candidates, subjects, strict=True):
            cases.append(Case(folder, candidate, guess(store.path("ingest", subject.entry)) if guess else None))
            progress.advance()
    out.mkdir(parents=True, exist_ok=True)
    done = domain.hand_out(cases, recipe, out)
    handed = [
        Handed(subject.subject_id, folder, choice.says(), answer, draft)
        for (subject, choice), folder, answer, draft in zip(chosen, folders, done.answers, done.drafts, strict=True)
    ]
    (out / README).write_text(_readme(handed, done.how, by, recipe, out))
    return handed


def _candidates(subjects: Sequence[Subject], recipe: Recipe, domain: Domain) -> list[Candidate]:
    """The files of the subjects where they were ingested from, each with the content it had then."""
    identity = Identity()
    known = identity.whois(subject.subject_id for subject in subjects)
    if unknown := [s.subject_id for s in subjects if s.subject_id not in known]:
        raise UsageError(
            f"the files of {', '.join(unknown)} are not known to the book beside {key_file()}: hand cases out where "
            "the key of their ingest is (SELFSIGHT_KEY)"
        )
    sources = {subject_id: _source_in(text) for subject_id, text in known.items()}
    found: dict[str, Candidate] = {}
    for source in sorted(set(sources.values())):
        scan = domain.scan(source, recipe)
        found |= {identity.keyed("subject", scan.namespace, one.name): one for one in scan.candidates}
    for subject in subjects:
        where = known[subject.subject_id]
        if subject.subject_id not in found:
            raise UsageError(f"{where} is no longer there: ingest the folder again")
        try:
            same = domain.read(found[subject.subject_id], recipe).digest == subject.content_digest
        except Refused as refusal:
            raise UsageError(f"{where} can no longer be read ({refusal}): ingest the folder again") from None
        if not same:
            raise UsageError(f"{where} has changed: ingest the folder again")
    return [found[subject.subject_id] for subject in subjects]


def _source_in(text: str) -> Path:
    """The folder in what whois says of a subject, "<folder>: <name>"; either may hold a colon.

    Raises:
        UsageError: it is not there.
    """
    folders = [Path(text[: colon.start()]) for colon in re.finditer(": ", text)]
    there = [folder for folder in folders if folder.is_dir()]
    if not there:
        raise UsageError(f"the folder of {text} is no longer there: mount it, or ingest it from where it is now")
    return there[-1]


def _folders(names: Sequence[str]) -> list[str]:
    """One folder name for each, after the source's own; equal ones are numbered."""
    plain = [re.sub(r"[^\w.^+ -]", "_", name) for name in names]
    return [name if plain.count(name) == 1 else f"{name}_{plain[: n + 1].count(name)}" for n, name in enumerate(plain)]


def _guess(recipe: Recipe, home: Path, contract: Contract, found: Suggestion) -> tuple[Guess | None, str]:
    """What makes drafts, and its name: the recipe's registered model, one of today's labels, else the head's proposal.

    Of several registered ones the champion, else the newest.
    """
    head = load(recipe.domain).heads[recipe.head]
    if not head.dense:
        return None, ""
    name = recipe.name.replace("_", "-")
    registered = [m for m in list_models(home) if m["name"] == name]
    best = sorted(registered, key=lambda m: ("champion" in m["aliases"], m["version"]))[-1:]
    models = [(resolve(home, m["uri"]), f"the registered model {m['uri']}") for m in best]
    models += [(found.model, "a model that was fine-tuned on the labels so far")] if found.model else []
    for folder, by in models:
        loaded = open_model(folder)
        try:
            contract.check(loaded.contract, mine="the data", theirs="the model")
        except ContractMismatch:
            continue  # it was made for data prepared in another way: no guess of its is a draft here
        return predictor(loaded), by
    propose = head.propose
    if propose is None:
        return None, ""
    return lambda entry: propose(entry, contract), "a rule that has learned from no label and is often wrong"


def _readme(handed: Sequence[Handed], how: Sequence[str], by: str, recipe: Recipe, out: Path) -> str:
    lines = [
        f"{len(handed)} cases to label for {recipe.name}, chosen by `selfsight next`.",
        "They carry the names of their source: keep this folder where the archive may be.",
        "", *how,
    ]  # fmt: skip
    if by:
        lines.append(f"Drafts are by {by}; where there is none, it saw nothing.")
    lines += [
        "Then: " + f"selfsight ingest {recipe.name} {out}",
        "Not all need an answer; the command can be repeated.",
    ]
    for one in handed:
        lines += ["", one.case, f"  why     {one.why}", f"  draft   {one.draft or 'none'}", f"  answer  {one.answer}"]
    return "\n".join(lines) + "\n"
