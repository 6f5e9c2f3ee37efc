"""report: one evaluation -> one self-contained HTML page, with everything its lineage leads to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from domains.errors import UsageError
from domains.manifest import Manifest, read_manifest
from domains.store import Store, write_atomically
from pipelines import report_figures as figures
from pipelines.archive_map import section as map_section
from pipelines.report_data import flat, labels_in, sheet, words
from pipelines.report_lesions import section as lesions
from pipelines.report_set import of_the_set

FEWEST_GROUPS = 3
"""With fewer evaluated groups a bootstrap over groups says nothing (one group: an interval without width)."""


@dataclass(frozen=True)
class Lineage:
    """What led to an evaluation, as far as it is still in the store."""

    store: Store
    key: str
    folder: Path
    evaluation: dict[str, Any]
    model: dict[str, Any] | None
    encoder: dict[str, Any] | None

    @property
    def groups(self) -> set[str]:
        """Ids of the evaluated groups."""
        return {case["group_id"] for case in self.evaluation["cases"]}

    @property
    def manifest_keys(self) -> dict[str, str]:
        """Store key of each manifest that was used -> for what, the evaluated one first."""
        used = {self.evaluation["manifest"]: ["evaluation"]}
        for info, purpose in ((self.model, "training with labels"), (self.encoder, "pretraining")):
            if info is not None:
                used.setdefault(info["lineage"]["manifest"], []).append(purpose)
        return {key: ", ".join(purposes) for key, purposes in used.items()}


def write_report(home: Path, *, evaluation: Path) -> Path:
    """The path of `<home>/reports/<recipe>-<evaluation key>.html`: no network, no other file needed to read it.

    Args:
        home: whose store the evaluation and what led to it are in; parts that are gone are left out.
        evaluation: the evaluation's folder in the store.

    Raises:
        UsageError: there is no evaluation in that folder.
    """
    file = Path(evaluation) / "evaluation.json"
    if not file.is_file():
        raise UsageError(f"no evaluation at {evaluation}; `selfsight evaluate --json` prints its folder")
    result = json.loads(file.read_text())
    store = Store(Path(home))
    model = _info(store, "finetune", result["model"])
    encoder = _info(store, "pretrain", model["lineage"]["encoder"]) if model else None
    lineage = Lineage(store, Path(evaluation).name, Path(evaluation), result, model, encoder)
    manifests = {key: read_manifest(path) for key in lineage.manifest_keys if (path := store.get("manifest", key))}
    page = (
        templates()
        .get_template("report.html.j2")
        .render(
            key=lineage.key,
            result=result,
            headline=_headline(lineage, manifests),
            cases=_cases(lineage),
            ranked_by=ranked_by(result),
            pooled=result.get("pooled") or [],
            whole=of_the_set(result),
            over_all=_over_all(result),
            lesions=lesions(result),
            pretraining=_pretraining(lineage),
            sheets=_sheets(lineage, manifests),
            archive=_archive(lineage, manifests),
            stages=_stages(lineage),
            sources=_sources(lineage, manifests),
            digests=_digests(lineage),
            versions=(model or encoder or {}).get("versions", {}),
            recipe=(model or encoder or {}).get("recipe"),
            limits=_limits(lineage, manifests),
        )
    )
    out = store.home / "reports" / f"{result['recipe']}-{lineage.key[:12]}.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page)
    return out


def templates() -> Environment:
    """The pages of this folder: everything put into them is escaped, and a missing value is an error."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pages.filters |= {"number": figures.number, "words": words, "duration": duration}
    return pages


def duration(seconds: float | None) -> str:
    """Seconds as "45 s", "12 min 5 s" or "2 h 3 min"."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _info(store: Store, stage: str, key: str | None) -> dict[str, Any] | None:
    folder = store.get(stage, key) if key else None
    info: dict[str, Any] | None = json.loads((folder / "model.json").read_text()) if folder else None
    return info


def _headline(lineage: Lineage, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    result, primary = lineage.evaluation, lineage.evaluation["primary"]
    mine, theirs = result["metrics"][primary], result["trivial"]["metrics"][primary]
    paired = result["paired"].get(primary)
    name = words(primary)
    rows = [("This model", mine), (result["trivial"]["name"], theirs)]
    means = [(label, m["mean"], m["low"], m["high"]) for label, m in rows]
    shift = [(f"Difference in {name}", paired["mean"], paired["low"], paired["high"])] if paired else []
    return {
        "name": name,
        "mine": mine,
        "theirs": theirs,
        "paired": paired,
        "verdict": _verdict(paired, len(lineage.groups), mine["n"], result["trivial"]["name"]),
        "few_groups": len(lineage.groups) < FEWEST_GROUPS,
        "held_out": _held_out(lineage, manifests),
        "intervals": figures.intervals(means),
        "difference": figures.intervals(shift, zero=True) if shift else Markup(""),
    }


def _verdict(paired: Mapping[str, float | None] | None, groups: int, n: int, competitor: str) -> str:
    if groups < FEWEST_GROUPS:
        return f"Only {_counted(groups, 'group')}: too few to say whether this is better than {competitor}."
    low, high = (paired["low"], paired["high"]) if paired else (None, None)
    if low is None or high is None:
        return "There is no defined difference to the competitor on these cases."
    if low > 0:
        return f"Better than the competitor that has learned nothing ({competitor}) on these {n} cases."
    if high < 0:
        return f"Worse than the competitor that has learned nothing ({competitor}) on these {n} cases."
    return f"On these {n} cases it cannot be told apart from the competitor that has learned nothing ({competitor})."


def _held_out(lineage: Lineage, manifests: Mapping[str, Manifest]) -> str:
    result = lineage.evaluation
    judged = f"{_counted(len(result['cases']), 'case')} of {_counted(len(lineage.groups), 'group')}"
    judged += " (such as patients or drives)"
    manifest = manifests.get(result["manifest"])
    if result["kind"] == "external":
        text = f"Judged on {judged} from a separate labelled folder."
    elif result["within_group"]:
        text = f"Judged on {judged}; there were too few groups to hold any out, so other subjects of the same groups."
    else:
        of = f" of the archive's {manifest.counts()['groups']}" if manifest else ""
        text = f"Judged on {judged}{of}, set aside by a hash of the group's name before any training."
    if lineage.model is not None:
        learned = lineage.model["lineage"]
        text += f" The model learned from the labels of {_counted(len(learned['label_groups']), 'other group')}"
        if not learned["encoder"]:
            text += ", from scratch (no pretraining)."
        elif lineage.encoder is None:
            text += ", starting from encoder weights that were not trained here."
        else:
            unlabelled = len(lineage.encoder["lineage"].get("pretrain_groups", ()))
            text += f", after pretraining without labels on {_counted(unlabelled, 'group')}."
            if probed := lineage.encoder["lineage"].get("probed_groups"):
                text += (
                    f" Probes looked at labels of {_counted(len(probed), 'group')} while it ran, and changed nothing."
                )
    return text


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _cases(lineage: Lineage) -> list[dict[str, Any]]:
    """Worst first; cases whose metric is undefined come last."""
    primary = ranked_by(lineage.evaluation)

    def rank(case: Mapping[str, Any]) -> tuple[bool, float, str]:
        value = case["metrics"].get(primary)
        undefined = value is None or not math.isfinite(value)
        return undefined, 0.0 if undefined else value, case["subject_id"]

    cases = []
    for case in sorted(lineage.evaluation["cases"], key=rank):
        picture = lineage.folder / "cases" / Path(case.get("picture") or "-").name
        facts = {k: v for k, v in flat(case.get("facts") or {}) if not isinstance(v, dict | list)}
        uri = figures.data_uri(picture.read_bytes()) if picture.is_file() else None
        cases.append({**case, "uri": uri, "facts": facts, "shape": (case.get("facts") or {}).get("shape")})
    return cases


def ranked_by(result: Mapping[str, Any]) -> str:
    """The metric of single cases that orders them."""
    metric: str = result.get("ranked_by") or result["primary"]
    return metric


def _over_all(result: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Figures over all cases but those of subgroups, model and competitor side by side."""
    mine, theirs = (
        dict(flat({key: value for key, value in (of.get("summary") or {}).items() if key != "by"}))
        for of in (result, result["trivial"])
    )
    rows = [(k, v, theirs.get(k)) for k, v in mine.items() if isinstance(v, int | float | None)]
    return [row for row in rows if row[1:] != (None, None)]


def _pretraining(lineage: Lineage) -> dict[str, Any] | None:
    if lineage.model is None or lineage.encoder is None:
        return None
    folder = lineage.store.path("pretrain", lineage.model["lineage"]["encoder"])
    formula = lineage.encoder["recipe"]["objective"]
    names = {path: path.stem.removeprefix("examples-") for path in sorted(folder.glob("examples-*.png"))}
    return {
        "formula": formula,
        "health": lineage.encoder.get("health") or {},
        "pictures": [
            (formula if name == "objective" else name, figures.data_uri(path.read_bytes()))
            for path, name in names.items()
        ],
    }


def _stages(lineage: Lineage) -> list[dict[str, Any]]:
    """What each stage cost and, for the trained ones, how its loss fell."""
    stages = []
    for name, info in (("Pretraining", lineage.encoder), ("Fine-tuning", lineage.model)):
        if info is not None:
            outcome = info["outcome"]
            marks = outcome.get("resumed_at") or []
            marks = marks if isinstance(marks, list) else [marks]
            losses = outcome.get("losses") or []
            curve = figures.curve(losses, x_label="step", y_label="loss", marks=[m for m in marks if m])
            stages.append({"name": name, "curve": curve, "resumed": len([m for m in marks if m]), **outcome})
    stages.append({"name": "Evaluation", "curve": "", "resumed": 0, "seconds": lineage.evaluation.get("seconds")})
    return stages


def _sheets(lineage: Lineage, manifests: Mapping[str, Manifest]) -> list[dict[str, Any]]:
    keys = {lineage.evaluation.get("labels"), (lineage.model or {}).get("lineage", {}).get("labels")}
    labels = [labels_in(lineage.store, key) for key in sorted(key for key in keys if key)]
    return [
        {"purpose": lineage.manifest_keys[key], **sheet(lineage.store, manifest, labels)}
        for key, manifest in manifests.items()
    ]


def _archive(lineage: Lineage, manifests: Mapping[str, Manifest]) -> dict[str, Any] | None:
    """The map of what the encoder was pretrained on; of a model from scratch, of what that model learned from."""
    if lineage.model is None:
        return None
    stage, key, info = "finetune", lineage.evaluation["model"], lineage.model
    if lineage.encoder is not None:
        stage, key, info = "pretrain", lineage.model["lineage"]["encoder"], lineage.encoder
    manifest = manifests.get(info["lineage"]["manifest"])
    return map_section(lineage.store, lineage.store.path(stage, key), manifest) if manifest else None


def _sources(lineage: Lineage, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    found: dict[str, str] = {}
    for info in (lineage.model, lineage.encoder):
        found |= (info or {}).get("lineage", {}).get("sources", {})
    for manifest in manifests.values():
        found |= manifest.sources
    return found


def _digests(lineage: Lineage) -> list[tuple[str, str]]:
    rows: list[tuple[str, str | None]] = [
        (f"Manifest ({purpose})", key) for key, purpose in lineage.manifest_keys.items()
    ]
    rows.append(("Labels", lineage.evaluation.get("labels")))
    if lineage.model is not None:
        rows.append(("Encoder", lineage.model["lineage"]["encoder"] or "none: from scratch"))
    if lineage.encoder is not None:
        rows.append(("Encoder weights, sha256", lineage.encoder.get("sha256")))
    rows.append(("Model", lineage.evaluation["model"]))
    if lineage.model is not None:
        rows.append(("Model weights, sha256", lineage.model.get("sha256")))
    return [(name, str(value)) for name, value in [*rows, ("Evaluation", lineage.key)] if value]


def _limits(lineage: Lineage, manifests: Mapping[str, Manifest]) -> list[str]:
    """What this evaluation cannot say, in plain sentences."""
    result = lineage.evaluation
    name, n = words(result["primary"]), result["metrics"][result["primary"]]["n"]
    if len(lineage.groups) < FEWEST_GROUPS:
        known = f"{_counted(len(lineage.groups), 'evaluated group')} cannot tell how far the {name} may be off."
    else:
        known = (
            f"With {n} cases the {name} is known to about ± {figures.number(result.get('half_width'))}; the interval "
            "is a bootstrap over groups and says nothing about sites, devices or populations that are not in the data."
        )
    limits = [
        known,
        "A reference is one reader's opinion unless its source says otherwise; no metric can be better than it.",
    ]
    if result["kind"] != "external":
        limits.append("The held-out groups come from the same archive as the training data, not from another site.")
    if result["within_group"]:
        limits.append("Within-group: training and evaluation share groups, so this figure is too good for new ones.")
    if result["transductive"]:
        limits.append("Transductive: pretraining has seen the evaluated groups, though never their labels.")
    if any(
        dict(flat(subject.facts)).get("spacing_known") is False for m in manifests.values() for subject in m.subjects
    ):
        limits.append("Spacing is nominal for some subjects: their distances are in voxels and no volumes are given.")
    if lineage.model is None:
        limits.append("The model's folder is no longer in the store, so its training is not shown here.")
    return limits
