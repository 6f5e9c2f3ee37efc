"""The data quality sheet of a report: what an archive gave, how its subjects are spread, why files were refused."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from domains import domain as domains_by_name
from domains.manifest import Labels, Manifest
from domains.store import Store
from pipelines import report_figures as figures

MOST_THUMBNAILS = 18
MOST_WORDS = 12
"""A fact with more different words than this, and more than every fourth subject has, is an id and not plotted."""
WORDS = {"dice": "Dice", "hd95": "HD95", "nsd": "Surface Dice", "auroc": "AUROC", "map": "mAP", "miou": "mIoU",
         "f1": "F1", "iou": "IoU", "froc": "FROC", "rankme": "RankMe", "mm": "(mm)", "ml": "(ml)",
         "ap": "AP", "pa": "PA", "ece": "ECE", "ppv": "PPV", "npv": "NPV"}  # fmt: skip


def sheet(store: Store, manifest: Manifest, labels: Sequence[Labels]) -> dict[str, Any]:
    """Counts, refusals, plots and thumbnails of one manifest, as the template takes them.

    Args:
        store: where subjects and labels are; those that are gone are left out.
        manifest: the archive.
        labels: whose facts are plotted too, where they belong to a subject of the manifest.
    """
    counts = manifest.counts()
    plots, same = _spread(_columns(store, manifest, labels))
    refused = [record for record in manifest.records if record.verdict == "refused"]
    ignored = Counter(record.reason for record in manifest.records if record.verdict == "ignored")
    return {
        "counts": counts,
        "adds_up": counts["found"] == sum(counts[v] for v in ("accepted", "refused", "labels", "ignored")),
        "refused": refused,
        "reasons": Counter(record.reason for record in refused).most_common(),
        "ignored": ignored.most_common(),
        "plots": plots,
        "same": same,
        "rules": dict(flat(manifest.contract.rules)),
        "thumbnails": list(_thumbnails(store, manifest)),
    }


def labels_in(store: Store, key: str) -> Labels:
    """The labels of a store key; none when they are gone."""
    folder = store.get("labels", key)
    if folder is None:
        return Labels(recipe="", entries={})
    return Labels.model_validate_json((folder / "labels.json").read_text())


def words(key: str) -> str:
    """A metric's or fact's key as people write it: "lesion_sensitivity" -> "Lesion sensitivity"."""
    parts = [WORDS.get(part, part) for part in re.split("[_/ ]", key)]
    text = " ".join(parts)
    return text[:1].upper() + text[1:] if parts[0] not in WORDS.values() else text


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values as (name, plain value): {"spacing_mm": [1, 2]} -> ("spacing_mm [1]", 1), ..."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key} ")
        elif isinstance(value, list | tuple) and 0 < len(value) <= 4:
            places = [f" [{place}]" for place in range(1, len(value) + 1)] if len(value) > 1 else [""]
            yield from ((f"{prefix}{key}{place}", item) for place, item in zip(places, value, strict=True))
        elif not isinstance(value, list | tuple):
            yield f"{prefix}{key}", value


def _columns(store: Store, manifest: Manifest, labels: Sequence[Labels]) -> dict[str, list[Any]]:
    """Fact -> its known values over subjects and labels."""
    columns: dict[str, list[Any]] = {}
    keys = {s.subject_id: key for one in labels for s in manifest.subjects if (key := one.entries.get(s.subject_id))}
    facts = [("", subject.facts) for subject in manifest.subjects]
    facts += [("Label: ", store.facts("label", key)) for key in keys.values() if store.get("label", key)]
    for prefix, values in facts:
        for name, value in flat(values):
            if value is not None:
                columns.setdefault(prefix + words(name), []).append(value)
    return columns


def _spread(columns: Mapping[str, list[Any]]) -> tuple[list[Markup], dict[str, Any]]:
    """Plots of the facts that differ, and the facts that are equal for all."""
    plots, same = [], {}
    for name, column in columns.items():
        different = len({str(value) for value in column})
        if different == 1:
            same[name] = column[0]
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
            plots.append(figures.histogram(column, name))
        elif different <= max(MOST_WORDS, len(column) // 4):
            plots.append(figures.bars([str(value) for value in column], name))
    return [plot for plot in plots if plot], same


def _thumbnails(store: Store, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """A few subjects, evenly spread over the manifest, as (subject id, picture)."""
    if manifest.contract.domain not in domains_by_name.names():
        return
    domain = domains_by_name.load(manifest.contract.domain)
    step = max(1, math.ceil(len(manifest.subjects) / MOST_THUMBNAILS))
    for subject in manifest.subjects[::step]:
        if (entry := store.get("ingest", subject.entry)) is not None:
            yield subject.subject_id, figures.data_uri(domain.picture(entry))
