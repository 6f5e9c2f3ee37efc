"""evaluate: model + held-out groups or any labelled folder -> metrics with intervals, beside the trivial competitor."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domains.errors import GateRefused, NothingUsable
from domains.head import Head
from domains.manifest import Labels, Subject, read_manifest
from domains.recipe import digest_of
from domains.splits import refuse_leak, split
from domains.store import STAGE_VERSIONS, Store
from pipelines.dataset import read_labels
from pipelines.ingest import take_in
from pipelines.intervals import interval, pooled, summary, without_nan
from pipelines.models import Loaded, open_model, predictor
from pipelines.progress import Progress
from pipelines.tracking import Tracker

DETAILS = "details.json"
"""What each case, and the trivial competitor on it, tells a head that judges sets; beside `evaluation.json`."""
TRACKED_PICTURES = 6
"""Of the worst cases, in MLflow; the report has them all."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation in the store; `result` is its `evaluation.json`."""

    folder: Path
    result: dict[str, Any]
    cached: bool

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Name -> mean, low and high (95 %), n."""
        metrics: dict[str, dict[str, float]] = self.result["metrics"]
        return metrics

    def to_json(self) -> dict[str, Any]:
        return {**self.result, "evaluation": str(self.folder)}


def evaluate(
    model: Path, home: Path, *, source: Path | None = None, held_out_of: Path | None = None, transductive: bool = False
) -> Evaluated:
    """Judges a model case by case on labelled subjects it has not learned from.

    Args:
        model: a model folder.
        home: the store.
        source: any labelled folder; without it the held-out groups of the dataset the model was trained on.
        held_out_of: folder of another model, on whose held-out groups this one is judged, so that the two compare.
        transductive: allows groups that were seen in pretraining (without labels); the result says so.

    Raises:
        GateRefused: an evaluated group or image was trained on.
        NothingUsable: no labelled subject to judge on.
        ContractMismatch: the folder was prepared in another way than the model expects.
    """
    store, loaded = Store(Path(home)), open_model(model)
    if source is None:
        other = open_model(held_out_of) if held_out_of else loaded
        manifest = read_manifest(store.path("manifest", other.info["lineage"]["manifest"]))
        manifest.contract.check(loaded.contract, mine="the data", theirs="the model")
        labels = read_labels(store, other.recipe, other.info["lineage"]["labels"])
        parts = split(manifest.subjects, other.recipe.fold)
        subjects, within_group = parts.test, parts.within_group
    else:
        taken = take_in(source, loaded.recipe, store.home, contract=loaded.contract)
        manifest, labels = taken.manifest, taken.labels
        subjects, within_group = manifest.subjects, False
    subjects = tuple(s for s in subjects if s.subject_id in labels.entries)
    if not subjects:
        raise NothingUsable("no labelled subject to evaluate on: add masks, or name a labelled folder")
    _refuse_seen(loaded, subjects, within_group=within_group, transductive=transductive)
    pairs = sorted((s.entry, labels.entries[s.subject_id]) for s in subjects)
    key = store.key("evaluate", [loaded.info["sha256"], pairs, transductive])
    cached = store.get("evaluate", key) is not None
    about = {
        "kind": "external" if source else "held-out",
        "within_group": within_group,
        "transductive": transductive,
        "manifest": store.key("manifest", manifest.digest),
        "labels": store.key("labels", labels.digest),
        "dataset_digest": manifest.digest,
        "judged_digest": judged_digest(loaded, subjects, labels),
    }
    folder = store.build("evaluate", key, lambda out: _evaluate(loaded, store, subjects, labels, about, key, out))
    return Evaluated(folder, json.loads((folder / "evaluation.json").read_text()), cached)


def judged_digest(loaded: Loaded, subjects: Sequence[Subject], labels: Labels) -> str:
    """What two evaluations must agree in to be compared: subjects, groups and labels, how they are judged, by what."""
    judged = sorted((s.content_digest, s.group_id, labels.entries[s.subject_id]) for s in subjects)
    head = loaded.domain.head(loaded.recipe)
    return digest_of([STAGE_VERSIONS["evaluate"], loaded.recipe.domain, head.name, head.primary_metric, judged])


def evaluations_of(loaded: Loaded, home: Path) -> dict[str, dict[str, Any]]:
    """Store key -> result of every evaluation of the model in a home's store."""
    folders = sorted((Path(home) / "store" / "evaluate").glob("*/evaluation.json"))
    found = {path.parent.name: json.loads(path.read_text()) for path in folders}
    return {key: one for key, one in found.items() if one["model"] == loaded.folder.name}


def _refuse_seen(loaded: Loaded, subjects: Sequence[Subject], *, within_group: bool, transductive: bool) -> None:
    lineage = loaded.info["lineage"]
    groups = set() if within_group else set(lineage["label_groups"])
    refuse_leak(trained_groups=groups, trained_digests=set(lineage["label_digests"]), evaluated=subjects)
    seen = {s.group_id for s in subjects} & set(lineage["pretrain_groups"])
    if seen and not transductive and not within_group:
        raise GateRefused(
            f"{len(seen)} of the evaluated groups were in the pretraining (without labels); "
            "evaluate on other groups, or say --transductive to allow it and have the report say so"
        )


def _evaluate(
    loaded: Loaded,
    store: Store,
    subjects: Sequence[Subject],
    labels: Labels,
    about: dict[str, Any],
    key: str,
    out: Path,
) -> dict[str, Any]:
    head = loaded.domain.head(loaded.recipe)
    started = time.monotonic()
    cases, details, trivial_details = _judge(loaded, head, store, subjects, labels, out)
    groups = [s.group_id for s in subjects]
    metrics, trivial = (_means([case[who] for case in cases], groups) for who in ("metrics", "trivial"))
    of_set, of_trivial = (_of_set(head, d, groups) for d in (details, trivial_details))
    metrics |= {name: summary(draws, groups) for name, draws in of_set.items()}
    trivial |= {name: summary(draws, groups) for name, draws in of_trivial.items()}
    if head.primary_metric in of_set:
        paired = summary(of_set[head.primary_metric] - of_trivial[head.primary_metric], groups)
    else:
        paired = interval([c["metrics"][head.ranked_by] - c["trivial"][head.ranked_by] for c in cases], groups)
    main = metrics[head.primary_metric]
    cases.sort(key=lambda case: float(np.nan_to_num(case["metrics"][head.ranked_by], nan=-1.0)))
    result = {
        "schema_version": 1, "recipe": loaded.recipe.name, "model": loaded.folder.name,
        "weights_sha256": loaded.info["sha256"], **about,
        "primary": head.primary_metric, "metrics": metrics,
        "ranked_by": head.ranked_by, "pooled": sorted(of_set),
        "half_width": (main["high"] - main["low"]) / 2,
        "trivial": {"name": head.trivial_name, "metrics": trivial, "summary": head.summarise(trivial_details)},
        "paired": {head.primary_metric: paired},
        "summary": head.summarise(details), "cases": cases, "seconds": time.monotonic() - started,
    }  # fmt: skip
    _track(loaded, store, result, out, key)
    if (
        head.primary_metric in of_set
    ):  # what its figures are computed from, so that two models can be compared on the same resamples
        kept = [
            {"subject_id": s.subject_id, "group_id": s.group_id, "metrics": mine, "trivial": theirs}
            for s, mine, theirs in zip(subjects, details, trivial_details, strict=True)
        ]
        (out / DETAILS).write_text(json.dumps(without_nan(kept)))
    (out / "evaluation.json").write_text(json.dumps(without_nan(result), indent=1))
    return {"primary": main}


def _means(cases: Sequence[dict[str, float]], groups: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of every metric, over the cases that have it: a volume is in ml, or in voxels where the spacing is not known."""
    names = dict.fromkeys(name for case in cases for name in case)
    return {name: interval([case.get(name, np.nan) for case in cases], groups) for name in names}


def _of_set(head: Head, details: Sequence[dict[str, Any]], groups: Sequence[str]) -> dict[str, np.ndarray]:
    """What `pool` and `decisions` say of all cases together, and of each resample of the groups."""
    pools = [pool for pool in (head.pool, head.decisions) if pool is not None]
    return {name: draws for pool in pools for name, draws in pooled(pool, details, groups).items()}


def _judge(
    loaded: Loaded, head: Head, store: Store, subjects: Sequence[Subject], labels: Labels, out: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Cases with metrics, and the details of the model's and of the competitor's predictions."""
    predict = predictor(loaded)
    (out / "cases").mkdir()
    cases: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    trivial_details: list[dict[str, Any]] = []
    with Progress(f"evaluate {loaded.recipe.name}", len(subjects), unit="cases") as progress:
        for subject in subjects:
            entry = store.path("ingest", subject.entry)
            label = store.path("label", labels.entries[subject.subject_id])
            prediction = predict(entry)
            metrics, detail = head.score(prediction, entry, label)
            trivial, trivial_detail = head.score(head.trivial(entry, loaded.contract), entry, label)
            case: dict[str, Any] = {
                "subject_id": subject.subject_id, "group_id": subject.group_id, "metrics": metrics,
                "trivial": trivial, "facts": subject.facts, "picture": f"cases/{subject.subject_id}.png",
            }  # fmt: skip
            (out / case["picture"]).write_bytes(head.picture(entry, prediction, label, predict.evidence(entry)))
            cases.append(case)
            # a threshold is chosen on one half of the groups and judged on the other: halves by the unkeyed hash
            half = {"half": subject.split_bucket % 2} if head.decisions else {}
            details.append(detail | half)
            trivial_details.append(trivial_detail | half)
            progress.advance(1, **{head.ranked_by: metrics[head.ranked_by]})
    return cases, details, trivial_details


def _track(loaded: Loaded, store: Store, result: dict[str, Any], out: Path, key: str) -> None:
    params = {"verb": "evaluate", "model": loaded.folder.name, "kind": result["kind"], "cases": len(result["cases"]),
              "dataset_digest": result["dataset_digest"]}  # fmt: skip
    tracker = Tracker(
        store.home / "runs" / f"evaluate-{key}", store.home, experiment=loaded.recipe.name, run_name="evaluate",
        params=params, tags={"verb": "evaluate", "key": key, "recipe": loaded.recipe.name},
    )  # fmt: skip
    figures = {f"{name}/{part}": value for name, m in result["metrics"].items() for part, value in m.items()}
    figures |= {f"trivial/{name}": m["mean"] for name, m in result["trivial"]["metrics"].items()}
    tracker.log(0, {name: float(value) for name, value in figures.items() if np.isfinite(value)})
    for case in result["cases"][:TRACKED_PICTURES]:
        tracker.picture(case["picture"], (out / case["picture"]).read_bytes())
    tracker.close("FINISHED")
