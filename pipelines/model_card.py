"""The model card: what a model is for, what it learned from, how it was judged, what it must not be used for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from domains.manifest import Manifest
from pipelines.intervals import interval, without_nan
from pipelines.models import Loaded
from pipelines.report_data import flat, words

LIMITS = {
    "medical": "Research software, not a medical device: not for diagnosis or treatment.",
    "driving": "Research software, not a driving function: not for the control of a vehicle.",
}


MOST_SUBGROUPS = 8
"""Different words of a fact; one with more is no way to divide cases."""


def model_card(
    loaded: Loaded, evaluations: Sequence[Mapping[str, Any]], manifest: Manifest | None, digests: Mapping[str, str],
    parity: float | None = None,
) -> str:  # fmt: skip
    """Markdown after Mitchell et al. 2019, Model Cards for Model Reporting, doi:10.1145/3287560.3287596.

    Args:
        loaded: the model.
        evaluations: `evaluation.json` of each of its evaluations.
        manifest: what it learned from, where the home has it still.
        digests: file -> sha256.
        parity: of the ONNX graph, see `export`; None: there is no graph.
    """
    recipe, lineage = loaded.recipe, loaded.info["lineage"]
    classes = ", ".join(getattr(recipe.data, "label_classes", ())) or "none"
    what = "model" if loaded.info["kind"] == "model" else "encoder, pretrained without labels"
    limits = LIMITS.get(recipe.domain, "Research software.")
    if not evaluations:
        limits += " **It was not evaluated in the home it comes from.**"
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
            f"- {len(lineage.get('label_groups', ()))} groups (patients or drives) with labels, "
            f"{len(lineage.get('pretrain_groups', ()))} without in pretraining; manifest `{lineage.get('manifest')}`, "
            f"labels `{lineage.get('labels')}`.",
            *_archive(loaded, manifest),
        ],
        "Licence": [
            *(f"- Data `{name}`: {statement}." for name, statement in lineage.get("sources", {}).items()),
            "- Weights: none of their own is stated. What the licence of the data, or of weights they started from, "
            "forbids, it may forbid of these weights too.",
        ],
        "Judged": [_judged(one) for one in evaluations] or ["Not evaluated."],
        "Files": [
            *(f"- `{name}` sha256 `{digest}`" for name, digest in digests.items()),
            *_graph(loaded, parity),
        ],
    }  # fmt: skip
    parts = [
        f"{'#' if n == 0 else '##'} {title}\n\n" + "\n".join(lines) for n, (title, lines) in enumerate(sections.items())
    ]
    return "\n\n".join(parts) + "\n"


def _graph(loaded: Loaded, parity: float | None) -> list[str]:
    if parity is None:
        return []
    crops = " x ".join(map(str, loaded.contract.crop_shape))
    return [f"- ONNX Runtime's numbers differ from torch's by {parity:.1e} of the largest at most; crops of {crops}."]


def _input(loaded: Loaded) -> str:
    rules = loaded.contract.rules
    channels = ", ".join(rules.get("channels", ())) or f"{loaded.contract.in_channels} channels"
    return f"{loaded.recipe.domain} images with channels {channels}"


def _archive(loaded: Loaded, manifest: Manifest | None) -> list[str]:
    """Cases it learned from, and how their sites, views and the like are spread."""
    if manifest is None:
        return []
    lineage = loaded.info["lineage"]
    groups = {*lineage.get("label_groups", ()), *lineage.get("pretrain_groups", ())}
    seen = [subject for subject in manifest.subjects if subject.group_id in groups]
    lines = [f"- {len(seen)} cases of {len({s.group_id for s in seen})} groups are listed there still."]
    for name, column in subgroups([subject.facts for subject in seen]).items():
        counts = Counter(column)
        lines.append(f"- {name}: " + ", ".join(f"{word} {counts[word]}" for word in sorted(counts)) + ".")
    return lines


def subgroups(facts: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Facts that divide the cases into a few subgroups (site, view, sex, age): name -> each case's word."""
    flattened = [dict(flat(fact)) for fact in facts]
    names = dict.fromkeys(name for fact in flattened for name in fact if isinstance(fact[name], str))
    columns = {words(name): [str(fact.get(name) or "not known") for fact in flattened] for name in names}
    return {name: column for name, column in columns.items() if 1 < len(set(column)) <= MOST_SUBGROUPS}


def _judged(evaluation: Mapping[str, Any]) -> str:
    """Tables of metrics beside the competitor that has learned nothing, and of each subgroup of the cases."""
    trivial, cases = evaluation["trivial"], evaluation["cases"]
    groups = len({case["group_id"] for case in cases})
    where = {"held-out": "held out from the same archive", "external": "another labelled folder"}
    about = f"{len(cases)} cases of {groups} groups, {where.get(evaluation['kind'], evaluation['kind'])}, dataset "
    about += f"`{evaluation['dataset_digest'][:16]}`; 95 % intervals over groups:"
    lines = [about, "", f"| metric | this model | {trivial['name']} |", "| --- | ---: | ---: |"]  # fmt: skip
    for name, mine in evaluation["metrics"].items():
        lines.append(f"| {name} | {figure(mine)} | {figure(trivial['metrics'].get(name))} |")
    metric = evaluation["ranked_by"]
    columns = subgroups([case["facts"] for case in cases])
    if columns:
        lines += ["", "| subgroup | cases | mean " + metric + " |", "| --- | ---: | ---: |"]
    for name, column in columns.items():
        for word in sorted(set(column)):
            inside = [case for case, one in zip(cases, column, strict=True) if one == word]
            scores = [math.nan if case["metrics"][metric] is None else case["metrics"][metric] for case in inside]
            found = without_nan(interval(scores, [case["group_id"] for case in inside]))
            lines.append(f"| {name}: {word} | {len(inside)} | {figure(found)} |")
    return "\n".join([*lines, ""])


def figure(found: Mapping[str, Any] | None) -> str:
    """A figure with its interval and the number of its cases, in words."""
    if not found or found.get("mean") is None:
        return "undefined"
    if found.get("low") is None:
        return f"{found['mean']:.3f} (n={found['n']})"
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f}, n={found['n']})"
