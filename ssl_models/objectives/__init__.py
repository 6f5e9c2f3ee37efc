"""Pretext objectives by name: the file name is the public name, and a sum of names is a recipe."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ssl_models.protocols import Batch, Losses, Needs, Painter


def names() -> tuple[str, ...]:
    """Every objective, sorted: the modules of this package."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def build(
    formula: str,
    encoder: nn.Module,
    *,
    settings: Mapping[str, Mapping[str, Any]],
    painter: Painter | None,
    actions: int = 0,
) -> Any:
    """The objective that `formula` names, e.g. "mae" or "mae + 0.5 * anomaly_synthesis".

    Args:
        formula: names joined by "+", each with an optional weight "w *" in front.
        settings: keyword arguments per objective name.
        painter: how the domain's anomalies look; only objectives that paint need it.
        actions: A of the batches' ego-motion.

    Returns:
        An `Objective` that is an nn.Module.

    Raises:
        ValueError: an unknown name or setting; the text names the nearest known ones.
    """
    formula_terms, world = terms(formula), {"painter": painter, "actions": actions}
    parts = {name: _build_one(name, encoder, settings.get(name, {}), world) for _, name in formula_terms}
    if len(formula_terms) == 1 and formula_terms[0][0] == 1.0:
        return parts[formula_terms[0][1]]
    return WeightedSum(encoder, parts, {name: weight for weight, name in formula_terms})


def terms(formula: str) -> list[tuple[float, str]]:
    """(weight, name) of each term: "mae + 0.5 * anomaly_synthesis" -> [(1.0, "mae"), (0.5, "anomaly_synthesis")]."""
    found = []
    for term in formula.split("+"):
        weight, _, name = term.rpartition("*")
        found.append((float(weight) if weight.strip() else 1.0, name.strip()))
    return found


def needs(formula: str) -> Needs:
    """What the terms of a formula ask for, taken together.

    Raises:
        ValueError: an unknown name.
    """
    each = [_class(name).needs for _, name in terms(formula)]
    return Needs(
        crops=max(one.crops for one in each),
        time=any(one.time for one in each),
        painter=any(one.painter for one in each),
        proposals=any(one.proposals for one in each),
        whole_batch=any(one.whole_batch for one in each),
    )


def caption(name: str) -> str:
    """What the objective of that name does, in a line: its module's first."""
    return str(inspect.getdoc(importlib.import_module(f"{__name__}.{name}"))).partition("\n")[0]


def paper(name: str) -> str:
    """The first work that an objective cites as its source, e.g. "Chen et al. 2020 (arXiv 2002.05709)"."""
    cited = str(inspect.getdoc(_class(name))).partition("Source:")[2].partition("Differs:")[0]
    return " ".join(cited.split()).partition(";")[0].rstrip(".")


@dataclass(frozen=True)
class Given:
    """What data can give an objective."""

    time: bool
    """It is recordings."""
    painter: bool
    proposals: bool
    """The head has a rule that proposes labels."""

    def lacks(self, name: str) -> list[str]:
        """What an objective asks for and does not get here, in words."""
        asked = _class(name).needs
        wishes = (
            (asked.time, self.time, "recordings (images that follow each other in time)"),
            (asked.painter, self.painter, "a painter of anomalies"),
            (asked.proposals, self.proposals, "a rule that proposes labels"),
        )
        return [what for wanted, there, what in wishes if wanted and not there]


def fitting(given: Given) -> list[str]:
    """The objectives that data can serve."""
    return [name for name in names() if not given.lacks(name)]


def refuse_unfit(formula: str, given: Given) -> None:
    """Checks, before any work, that data can give what a formula asks for.

    Raises:
        ValueError: an unknown name, or an objective that does not fit; the text says why and which fit.
    """
    for _, name in terms(formula):
        if missing := given.lacks(name):
            fits = ", ".join(fitting(given))
            raise ValueError(f"the objective {name} needs {' and '.join(missing)}; objectives that fit: {fits}")


def refuse_ranks(formula: str) -> None:
    """Checks that a formula's loss, averaged over ranks with a part of the batch each, is the loss of the whole batch.

    Raises:
        ValueError: it is not; the text names the terms at fault and the objectives that may be trained so.
    """
    if wrong := [name for _, name in terms(formula) if _class(name).needs.whole_batch]:
        fit = ", ".join(name for name in names() if not _class(name).needs.whole_batch)
        raise ValueError(
            f"the loss of {' and '.join(wrong)} is taken over a whole batch, which several devices cannot share; set "
            f"devices=1, or take objectives that may be spread: {fit}"
        )


def gives_zero_label_model(formula: str, classes: int) -> bool:
    """Whether pretraining leaves a decoder for a head of so many classes: that of the first term that has one."""
    brought = [getattr(_class(name), "decoder_classes", None) for _, name in terms(formula)]
    first = next((count for count in brought if count is not None), None)
    return first == classes


def _class(name: str) -> Any:
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; objectives are {', '.join(names())}"
        raise ValueError(f"unknown objective {name!r}{hint}")
    return importlib.import_module(f"{__name__}.{name}").OBJECTIVE


def _build_one(name: str, encoder: nn.Module, settings: Mapping[str, Any], world: Mapping[str, Any]) -> Any:
    objective = _class(name)
    known = [p.name for p in inspect.signature(objective).parameters.values() if p.kind is p.KEYWORD_ONLY]
    own = [key for key in known if key not in world]
    for key in settings:
        if key not in own:
            near = difflib.get_close_matches(key, own, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; its settings are {', '.join(own)}"
            raise ValueError(f"objective {name} has no setting {key!r}{hint}")
    return objective(encoder, **{key: world[key] for key in known if key in world}, **settings)


class WeightedSum(nn.Module):
    """Several objectives on one encoder; the loss is their weighted sum."""

    def __init__(self, encoder: Any, parts: dict[str, Any], weights: dict[str, float]) -> None:
        super().__init__()
        self.needs = needs(" + ".join(parts))
        self.encoder = encoder
        self.parts: Any = nn.ModuleDict(parts)
        self.weights = weights
        decoders = [part.decoder for part in parts.values() if part.decoder is not None]
        self.decoder = decoders[0] if decoders else None

    def forward(self, batch: Batch) -> Losses:
        losses = {name: part(batch) for name, part in self.parts.items()}
        total = sum(self.weights[name] * loss.total for name, loss in losses.items())
        named = {name: loss.total.detach() for name, loss in losses.items()}
        for name, loss in losses.items():
            named |= {f"{name}/{key}": value for key, value in loss.parts.items()}
        first = next(iter(losses.values()))
        return Losses(total=total, parts=named, embedding=first.embedding)

    def after_step(self) -> None:
        for part in self.parts.values():
            getattr(part, "after_step", lambda: None)()

    def examples(self, batch: Batch) -> dict[str, Tensor]:
        return {
            f"{name}: {key}": panel for name, part in self.parts.items() for key, panel in part.examples(batch).items()
        }
