"""Pretext objectives by name: the file name is the public name, and a sum of names is a recipe."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ssl_models.protocols import Batch, Losses, Painter


def names() -> tuple[str, ...]:
    """Every objective, sorted: the modules of this package."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def build(
    formula: str, encoder: nn.Module, *, settings: Mapping[str, Mapping[str, Any]], painter: Painter | None
) -> Any:
    """The objective that `formula` names, e.g. "mae" or "mae + 0.5 * anomaly_synthesis".

    Args:
        formula: names joined by "+", each with an optional weight "w *" in front.
        settings: keyword arguments per objective name.
        painter: how the domain's anomalies look; only objectives that paint need it.

    Returns:
        An `Objective` that is an nn.Module.

    Raises:
        ValueError: an unknown name or setting; the text names the nearest known ones.
    """
    terms: list[tuple[float, str]] = []
    for term in formula.split("+"):
        weight, _, name = term.rpartition("*")
        terms.append((float(weight) if weight.strip() else 1.0, name.strip()))
    parts = {name: _build_one(name, encoder, settings.get(name, {}), painter) for _, name in terms}
    if len(terms) == 1 and terms[0][0] == 1.0:
        return parts[terms[0][1]]
    return WeightedSum(encoder, parts, {name: weight for weight, name in terms})


def _build_one(name: str, encoder: nn.Module, settings: Mapping[str, Any], painter: Painter | None) -> Any:
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; objectives are {', '.join(names())}"
        raise ValueError(f"unknown objective {name!r}{hint}")
    objective = importlib.import_module(f"{__name__}.{name}").OBJECTIVE
    known = [p.name for p in inspect.signature(objective).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; its settings are {', '.join(known)}"
            raise ValueError(f"objective {name} has no setting {key!r}{hint}")
    extra = {"painter": painter} if "painter" in known else {}
    return objective(encoder, **extra, **settings)


class WeightedSum(nn.Module):
    """Several objectives on one encoder; the loss is their weighted sum."""

    def __init__(self, encoder: Any, parts: dict[str, Any], weights: dict[str, float]) -> None:
        super().__init__()
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

    def examples(self, batch: Batch) -> dict[str, Tensor]:
        return {
            f"{name}: {key}": panel for name, part in self.parts.items() for key, panel in part.examples(batch).items()
        }
