"""Domain: the frozen bundle of functions that says what a kind of data is, and how domains are found."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import domains
from domains.errors import UsageError
from domains.head import Evidence, Head, Prediction
from domains.manifest import Contract, Subject
from domains.recipe import Recipe
from ssl_models.protocols import Batch, Painter


@dataclass(frozen=True)
class Candidate:
    """Files that may become one subject."""

    name: str
    """Of the subject within its source, e.g. its folder; never stored, only hashed."""
    group: str
    """Name of the patient or drive; never stored, only hashed."""
    images: Mapping[str, Path]
    """Channel name -> file."""
    label: Path | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What the layout or dataset.yaml knows and the files do not, e.g. {"spacing": "nominal"}."""


@dataclass(frozen=True)
class Scan:
    """What a source folder contains, before any pixel is read."""

    layout: str
    """The layout that was recognised, in words."""
    namespace: str
    """Keeps equal patient names of two sources apart."""
    candidates: Sequence[Candidate]
    ignored: Mapping[Path, str] = field(default_factory=dict)
    """File -> why it is not an input."""
    refused: Mapping[Path, str] = field(default_factory=dict)
    """File -> why it cannot be used, where that is known before any pixel is read."""
    absent: Sequence[str] = ()
    """Channels of the recipe that no candidate has; a new dataset must not begin like that."""
    statement: str = "not stated"
    """Licence and origin of the data."""
    alike: Mapping[Path, Sequence[str]] = field(default_factory=dict)
    """Refused label -> names of the candidates it could belong to; for the terminal, never stored."""
    notes: Sequence[str] = ()
    """What a person should know of the source; with names, for the terminal, never stored."""
    labels_only: bool = False
    """The images are there to be drawn on: all of them are in the dataset already, and only labels are taken."""


@dataclass(frozen=True)
class Case:
    """One subject to be handed out to whoever draws its label."""

    folder: str
    """One name below the folder of all cases."""
    candidate: Candidate
    draft: Prediction | None
    """A first guess to correct, or None."""


@dataclass(frozen=True)
class HandedOut:
    """Where the cases are, and what to do with them."""

    answers: Sequence[str]
    """For each case the path below the folder under which its label is to be saved, or where to fill it in."""
    drafts: Sequence[str]
    """For each case the path of its draft, "" where there is none."""
    how: Sequence[str]
    """Lines for the reader: what to open, what to draw, what counts as an answer."""


Raw = Any
"""A subject or label as read and checked: opaque to the pipelines but for `digest`, the sha256 (hex) of its decoded
content, geometry included, and, where a subject has it, `stated`: what its source says beside the pixels (JSON), which
`write` puts into the entry too."""


FramePredictor = Callable[[np.ndarray, tuple[int, int]], Sequence[Any]]
"""(N, H, W, 3) uint8 frames on the stored grid, native (H, W) -> what the head says of each."""


class CropSource(Protocol):
    """Random crops of a fixed list of subjects, read from the store."""

    def __len__(self) -> int:
        """How many subjects."""

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        """V = `crops` crops of each of the subjects, drawn (place and augmentation) from its seed alone.

        Those of one subject lie at about the same place (in a recording: near in time), each augmented by itself. The
        first is the one that is drawn alone.
        """


@dataclass(frozen=True)
class Domain:
    """A kind of data: read, check, prepare, cut, paint, show. One folder; nothing else is edited to add one."""

    name: str
    version: int
    """Of the preprocessing code, as in its contracts; bumped by hand when its output changes."""
    recipes: Mapping[str, Recipe]
    heads: Mapping[str, Head]
    scan: Callable[[Path, Recipe], Scan]
    """Source folder -> candidates. Raises UsageError when the folder is not there."""
    inspect: Callable[[Candidate], dict[str, Any]]
    """Cheap header facts of a candidate for `plan`. Raises Refused."""
    plan: Callable[[Sequence[dict[str, Any]], Recipe], Contract]
    """Fingerprint of the archive -> preprocessing contract."""
    read: Callable[[Candidate, Recipe], Raw]
    """Decoded, de-identified, checked. Raises Refused."""
    write: Callable[[Raw, Contract, Path], dict[str, Any]]
    """Preprocessed arrays into an entry's folder -> facts for the manifest."""
    read_label: Callable[[Candidate, Raw, Contract], Raw]
    """The candidate's label, checked against its image. Raises Refused."""
    write_label: Callable[[Raw, Contract, Path], dict[str, Any]]
    """Label arrays into an entry's folder -> facts (e.g. {"tumor_fraction": 0.01})."""
    crops: Callable[[Sequence[Path], Sequence[Path] | None, Sequence[Subject], Contract, Recipe, bool], CropSource]
    """Subject entries, label entries or None (unlabelled), subjects, contract, recipe, augment -> crops."""
    painter: Callable[[Contract, Recipe], Painter] | None
    """How anomalies look here, or None."""
    open_inputs: Callable[[Path, Recipe], Sequence[Candidate]]
    """A file given to `predict` -> candidates; a folder is scanned, and its labels are left out."""
    write_prediction: Callable[[Candidate, Prediction, Contract, Path, Evidence | None], list[Path]]
    """Prediction, with its evidence if the head has it -> files in the source's own geometry, below a folder."""
    picture: Callable[[Path], bytes]
    """Subject entry -> PNG thumbnail for the data quality sheet."""
    panels: Callable[[dict[str, Any]], bytes]
    """An objective's example panels (name -> (B, 1, *S) array) -> PNG."""
    knows_anomalies: Callable[[Recipe], bool] = lambda recipe: True
    """Whether the painter knows how they look in a recipe's kind of data."""
    channel_rules: tuple[str, ...] = ("channels",)
    """Keys of a contract's rules that say what its input channels are. Where their number differs, an encoder's weights
    are converted, and these rules may differ with it; with as many channels they must agree like all others."""
    has_time: Callable[[Recipe], bool] = lambda recipe: False
    """Whether crops of a recipe are clips, with time as their first axis."""
    generate: Callable[[Path, int, int], None] | None = None
    """folder, subjects, seed -> writes a generated archive in the domain's own raw format (the demo)."""
    dataset_yaml: Mapping[str, str] = field(default_factory=dict)
    """Key -> meaning of the dataset.yaml that a source folder may carry."""
    glance: Callable[[Path], np.ndarray] | None = None
    """Subject entry -> (C, D, H, W) of a fixed small shape, the whole subject (1 for an axis that it has not): what
    near-duplicates are told by. None: they are not looked for."""
    recording: Callable[[Candidate], Candidate | None] = lambda candidate: None
    """The whole recording that a candidate is a part of, which `predict` takes as a stream; None: no part of one."""
    stream: Callable[[Candidate, FramePredictor, Contract, Recipe, Path], list[Path]] | None = None
    """Recording, model, contract, recipe, folder -> files of what the model says of each of its frames.
    Memory does not grow with its length. Raises Refused."""
    hand_out: Callable[[Sequence[Case], Recipe, Path], HandedOut] | None = None
    """Cases into an empty folder, images in their source's own form, so that `scan` finds the labels that are put
    beside them (`labels_only`); a draft is never taken for one. Raises UsageError. None: nobody has built it yet."""

    def __reduce__(self) -> tuple[Callable[[str], Domain], tuple[str]]:
        """To another process a domain travels by its name."""
        return load, (self.name,)

    def head(self, recipe: Recipe) -> Head:
        """The recipe's head, which calls its classes by the names that the recipe gives them."""
        found = self.heads[recipe.head]
        return found.named(found, recipe) if found.named else found

    def paints(self, recipe: Recipe) -> bool:
        """Whether there is a painter of anomalies for a recipe's data."""
        return self.painter is not None and self.knows_anomalies(recipe)


def names() -> tuple[str, ...]:
    """Every domain: the folders of this package, and installed packages with a `selfsight.domains` entry point."""
    here = {m.name for m in pkgutil.iter_modules(domains.__path__) if m.ispkg}
    return tuple(sorted(here | {point.name for point in entry_points(group="selfsight.domains")}))


def load(name: str) -> Domain:
    """The domain of that name.

    Raises:
        UsageError: there is none.
    """
    for point in entry_points(group="selfsight.domains"):
        if point.name == name:
            found: Domain = point.load()
            return found
    if name not in names():
        raise UsageError(f"unknown domain {name!r}; domains are {', '.join(names())}")
    bundle: Domain = importlib.import_module(f"domains.{name}").DOMAIN
    return bundle


def recipe_from(values: Mapping[str, Any]) -> tuple[Domain, Recipe]:
    """A recipe's domain and the recipe itself, of the domain's own class, from plain values.

    Raises:
        UsageError: there is no such domain.
        RecipeError: the values are not a recipe of it.
    """
    domain = load(values["domain"])
    return domain, type(next(iter(domain.recipes.values()))).checked(values)


def find_recipe(name: str) -> tuple[Domain, Recipe]:
    """The recipe of that name and its domain.

    Raises:
        UsageError: there is none; the text lists those there are.
    """
    known: dict[str, tuple[Domain, Recipe]] = {}
    for domain_name in names():
        domain = load(domain_name)
        known |= {recipe_name: (domain, recipe) for recipe_name, recipe in domain.recipes.items()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown recipe {name!r}; {hint}recipes are {', '.join(sorted(known))}")
    return known[name]
