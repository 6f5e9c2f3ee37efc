"""The model card: what a model is for, what it learned from, how it was judged, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.models import Loaded

LIMITS = {
    "medical": "Research software, not a medical device: not for diagnosis or treatment.",
    "driving": "Research software, not a driving function: not for the control of a vehicle.",
}


def model_card(
    loaded: Loaded, evaluations: Sequence[Mapping[str, Any]], digests: Mapping[str, str], parity: float
) -> str:  # fmt: skip
    """Markdown after Mitchell et al. 2019, Model Cards for Model Reporting, doi:10.1145/3287560.3287596.

    Args:
        loaded: the model.
        evaluations: `evaluation.json` of each of its evaluations.
        digests: file -> sha256.
        parity: of the ONNX graph, see `export`.
    """
    recipe, lineage, contract = loaded.recipe, loaded.info["lineage"], loaded.contract
    classes = ", ".join(getattr(recipe.data, "label_classes", ())) or "none"
    what = "model" if loaded.info["kind"] == "model" else "encoder, pretrained without labels"
    limits = LIMITS.get(recipe.domain, "Research software.")
    if not evaluations:
        limits += " **It was not evaluated in the home it was exported from.**"
    sections = {
        f"Model card: {recipe.name}": [
            f"A {recipe.size} {recipe.encoder} {what}, objective `{recipe.objective}`, head `{recipe.head}`.",
        ],
        "Use": [
            f"Made for {_input(loaded)}. Classes: {classes}. Prepared as the contract in `model.json` says; an input "
            "that was prepared in another way gives wrong answers without a warning from this file.",
            limits,
        ],
        "Learned from": [
            *(f"- {name}: {statement}" for name, statement in lineage.get("sources", {}).items()),
            f"- {len(lineage.get('label_groups', ()))} groups (patients or drives) with labels, "
            f"{len(lineage.get('pretrain_groups', ()))} without in pretraining; manifest `{lineage.get('manifest')}`, "
            f"labels `{lineage.get('labels')}`.",
            "- What the data's licence forbids, it may forbid of these weights too.",
        ],
        "Judged": [_judged(one) for one in evaluations] or ["Not evaluated."],
        "Files": [
            *(f"- `{name}` sha256 `{digest}`" for name, digest in digests.items()),
            f"- ONNX Runtime's numbers differ from torch's by {parity:.1e} of the largest at most; crops of "
            f"{' x '.join(map(str, contract.crop_shape))}.",
        ],
    }  # fmt: skip
    parts = [
        f"{'#' if n == 0 else '##'} {title}\n\n" + "\n".join(lines) for n, (title, lines) in enumerate(sections.items())
    ]
    return "\n\n".join(parts) + "\n"


def _input(loaded: Loaded) -> str:
    rules = loaded.contract.rules
    channels = ", ".join(rules.get("channels", ())) or f"{loaded.contract.in_channels} channels"
    return f"{loaded.recipe.domain} images with channels {channels}"


def _judged(evaluation: Mapping[str, Any]) -> str:
    """A table of metrics beside the competitor that has learned nothing."""
    trivial = evaluation["trivial"]
    about = f"{evaluation['kind']}, {len(evaluation['cases'])} cases, dataset `{evaluation['dataset_digest'][:16]}`:"
    lines = [about, "", f"| metric | this model | {trivial['name']} |", "| --- | ---: | ---: |"]  # fmt: skip
    for name, figure in evaluation["metrics"].items():
        lines.append(f"| {name} | {_figure(figure)} | {_figure(trivial['metrics'].get(name))} |")
    return "\n".join([*lines, ""])


def _figure(figure: Mapping[str, Any] | None) -> str:
    if not figure or figure.get("mean") is None:
        return "undefined"
    if figure.get("low") is None:
        return f"{figure['mean']:.3f} (n={figure['n']})"
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}, n={figure['n']})"
