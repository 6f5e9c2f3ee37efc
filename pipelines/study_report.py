"""study report: what a study found, as a table (JSON, CSV, Markdown), figures, telling cases and one HTML page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domains.manifest import read_manifest
from domains.store import Store
from pipelines import report_figures as figures
from pipelines import study_figures
from pipelines.dataset import read_labels
from pipelines.models import Loaded, Predictor, open_model, predictor
from pipelines.progress import Progress
from pipelines.report import ranked_by, templates
from pipelines.study_table import KINDS, as_csv, as_markdown, columns, legend, lines, named, other_figures, trivial

MOST_CASES = 3
"""Of the largest gains, and of the largest losses."""


def write_study(study: dict[str, Any], home: Path, out: Path) -> dict[str, str]:
    """Writes what a study found into the folder `out`; needs no training, only looks at models and subjects.

    Args:
        study: what `study.json` holds.
        home: whose store the models, subjects and labels are in; a picture whose parts are gone is left out, and the
            page says so.
        out: made if missing; equal studies write equal files.

    Returns:
        What -> file name in `out`: "study", "csv", "markdown", "curve", "report", and "scatter" where two arms can be
        compared subject by subject.
    """
    out.mkdir(parents=True, exist_ok=True)
    study = json.loads(json.dumps(study), parse_constant=lambda _: None)  # JSON has no nan: undefined is null
    pairs = paired(study)
    files: dict[str, tuple[str, bytes]] = {
        "study": ("study.json", json.dumps(study, indent=1, allow_nan=False).encode()),
        "csv": ("table.csv", as_csv(study).encode()),
        "markdown": ("table.md", as_markdown(study).encode()),
        "curve": ("curve.png", study_figures.curve(study)),
    }
    if pairs:
        dots = {budget: [(pair.scratch, pair.pretrained) for pair in found] for budget, found in pairs.items()}
        files["scatter"] = ("scatter.png", study_figures.scatter(
            dots, primary=ranked_by(study), scratch=_scratch(study), pretrained=study["main_arm"]))  # fmt: skip
    files["report"] = ("report.html", _page(study, Store(Path(home)), pairs, files).encode())
    for name, content in files.values():
        (out / name).write_bytes(content)
    return {what: name for what, (name, _) in files.items()}


@dataclass(frozen=True)
class Pair:
    """One subject under scratch and under the main arm, with the same labels."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @property
    def scratch(self) -> float:
        return float(self.before["score"])

    @property
    def pretrained(self) -> float:
        return float(self.after["score"])

    @property
    def gain(self) -> float:
        return self.pretrained - self.scratch


def paired(study: Mapping[str, Any]) -> dict[int, list[Pair]]:
    """Label budget (above 0) -> the subjects with a defined score under both scratch and the main arm.

    A subject that every fold's models were judged on has its mean score, and stands for its first fold.
    """
    judged: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for case in study["cases"]:
        if case["label_budget"] and case["score"] is not None:
            judged.setdefault((case["arm"], case["label_budget"], case["subject_id"]), []).append(case)
    scores = {key: {**found[0], "score": statistics.fmean(c["score"] for c in found)} for key, found in judged.items()}
    scratch, compared = _scratch(study), {}
    for budget in columns(study):
        subjects = sorted(subject for arm, at, subject in scores if arm == scratch and at == budget)
        both = [
            Pair(scores[scratch, budget, subject], scores[study["main_arm"], budget, subject])
            for subject in subjects
            if (study["main_arm"], budget, subject) in scores
        ]
        if both and scratch != study["main_arm"]:
            compared[budget] = both
    return compared


def extremes(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """The largest gains, largest first, and the largest losses, largest first."""
    ranked = sorted(pairs, key=lambda pair: (-pair.gain, pair.after["subject_id"]))
    gains = [pair for pair in ranked[:MOST_CASES] if pair.gain > 0]
    return gains, [pair for pair in ranked[: -MOST_CASES - 1 : -1] if pair.gain < 0]


@dataclass
class Overlays:
    """Pictures of what a cell's model finds in a subject, as far as both are still in the store."""

    study: Mapping[str, Any]
    store: Store
    open: dict[str, tuple[Loaded, Predictor]] = field(default_factory=dict)
    """Models by store key: several subjects share one."""

    def both(self, pairs: Sequence[Pair]) -> list[tuple[Pair, list[tuple[str | None, str]]]]:
        """Each pair with its pictures: scratch, then the main arm."""
        found = []
        with Progress("pictures of cases", len(pairs), unit="subjects") as progress:
            for pair in pairs:
                found.append((pair, [self.of(pair.before), self.of(pair.after)]))
                progress.advance(1)
        return found

    def of(self, case: Mapping[str, Any]) -> tuple[str | None, str]:
        """The picture as a data URI, or None and why there is none."""
        at = [case[name] for name in ("arm", "label_budget", "fold")]
        keys = [c["model"] for c in self.study["cells"] if [c["arm"], c["label_budget"], c["fold"]] == at]
        if not keys or keys[0] is None:
            return None, "This arm kept no model."
        if self.store.get("finetune", keys[0]) is None:
            return None, "The model is no longer in the store."
        if keys[0] not in self.open:
            loaded = open_model(self.store.path("finetune", keys[0]))
            self.open[keys[0]] = loaded, predictor(loaded)
        return self._drawn(*self.open[keys[0]], case["subject_id"])

    def _drawn(self, loaded: Loaded, predict: Predictor, subject_id: str) -> tuple[str | None, str]:
        # a study on another labelled folder names its manifest and labels; else they are those the model grew from
        manifest_key = self.study.get("manifest") or loaded.info["lineage"]["manifest"]
        labels_key = self.study.get("labels") or loaded.info["lineage"]["labels"]
        if self.store.get("manifest", manifest_key) is None or self.store.get("labels", labels_key) is None:
            return None, "The list of subjects or labels is no longer in the store."
        manifest = read_manifest(self.store.path("manifest", manifest_key))
        labels = read_labels(self.store, loaded.recipe, labels_key)
        subject = next((s for s in manifest.subjects if s.subject_id == subject_id), None)
        entry = self.store.get("ingest", subject.entry) if subject else None
        label = self.store.get("label", labels.entries.get(subject_id, "none"))
        if entry is None or label is None:
            return None, "The subject or its label is no longer in the store."
        head = loaded.domain.heads[loaded.recipe.head]
        return figures.data_uri(head.picture(entry, predict(entry), label, predict.evidence(entry))), ""


def _page(
    study: Mapping[str, Any], store: Store, pairs: Mapping[int, Sequence[Pair]], files: Mapping[str, tuple[str, bytes]]
) -> str:
    """The report as one file, without network."""
    overlays = Overlays(study, store)
    smallest = min(pairs, default=None)
    groups = extremes(pairs[smallest]) if smallest is not None else ([], [])
    titles = ("Where pretraining helped most", "Where pretraining hurt most")
    return templates().get_template("study_report.html.j2").render(
        study=study,
        lines=lines(study),
        others=other_figures(study),
        budgets=columns(study),
        trivial=trivial(study),
        named=named,
        kinds=KINDS,
        legend=legend(study),
        scratch=_scratch(study),
        ranked_by=ranked_by(study),
        budget=smallest,
        pictures={what: figures.data_uri(files[what][1]) for what in ("curve", "scatter") if what in files},
        shown=sorted(pairs)[: study_figures.MOST_PANELS],
        cases=[(title, overlays.both(group)) for title, group in zip(titles, groups, strict=True)],
        spent=_spent(study),
    )  # fmt: skip


def _spent(study: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Name of each arm, the models that it was the first to use, and its seconds."""
    found, known = [], {None}
    for arm in study["arms"]:
        cells = [cell for cell in study["cells"] if cell["arm"] == arm["name"]]
        models = {cell["model"] for cell in cells} - known
        known |= models
        if cells:
            found.append((str(arm["name"]), len(models), float(sum(cell["seconds"] or 0 for cell in cells))))
    return found


def _scratch(study: Mapping[str, Any]) -> str:
    """Name of the arm from scratch; empty without one."""
    return next((str(arm["name"]) for arm in study["arms"] if arm["kind"] == "scratch"), "")
