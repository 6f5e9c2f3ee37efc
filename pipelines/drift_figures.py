"""What drift looks at in a subject: intensity figures of its crops, and the quality figures its manifest has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from torch import Tensor

from domains.domain import CropSource, load
from domains.manifest import Contract, Subject
from domains.recipe import Recipe
from domains.store import Store
from pipelines.dataset import subject_entries
from pipelines.embed import CROPS
from pipelines.progress import Progress
from pipelines.report_data import flat, words

NAMES = ("mean", "deviation", "p5", "p50", "p95", "sharpness", "noise")
FILE = "figures.safetensors"
KNOWN = 0.8
"""Share of the training subjects that must have a quality figure; else it is left out."""


def crop_figures(home: Path, recipe: Recipe, contract: Contract, subjects: Sequence[Subject]) -> np.ndarray:
    """(N, channels * len(NAMES)) float32: what the network is shown of each subject, in figures.

    Of the same unaugmented crops that `embeddings` cuts, so in normalised intensities; the mean over the crops. Kept
    in the store: the second call reads.
    """
    store = Store(Path(home))
    by_entry = {subject.entry: subject for subject in subjects}
    entries = sorted(by_entry)
    inputs = contract.model_dump(mode="json", exclude={"num_classes"})
    key = store.key("figures", [recipe.digest("domain", "data"), inputs, CROPS, entries])

    def write(out: Path) -> dict[str, Any]:
        ordered = [by_entry[entry] for entry in entries]
        source = load(recipe.domain).crops(subject_entries(store, ordered), None, ordered, contract, recipe, False)
        save_file({"figures": _of_all(source, contract)}, out / FILE)
        return {"subjects": len(ordered)}

    found: np.ndarray = load_file(store.build("figures", key, write) / FILE)["figures"]
    place = {entry: row for row, entry in enumerate(entries)}
    return found[[place[subject.entry] for subject in subjects]]


def crop_names(contract: Contract) -> list[str]:
    """Names of the columns of `crop_figures`."""
    channels = range(1, contract.in_channels + 1)
    return [f"crop {name}" + (f" [{c}]" if contract.in_channels > 1 else "") for c in channels for name in NAMES]


def figures_of(crops: Tensor) -> np.ndarray:
    """Crops (V, C, *S) of one subject -> (C * len(NAMES),) float32, each figure the mean over the crops.

    Mean, standard deviation and percentiles in normalised intensities; sharpness is the mean step between neighbours
    along the last two axes, in deviations; noise is the standard deviation of Gaussian noise that would leave what a
    mask without response to edges finds, in normalised intensities.

    Source: J. Immerkaer 1996, "Fast Noise Variance Estimation", doi:10.1006/cviu.1996.0060 (noise).
    """
    values = crops.float().numpy().astype(np.float64)
    flat_values = values.reshape(*values.shape[:2], -1)
    deviation = flat_values.std(-1)
    down, along = np.abs(np.diff(values, axis=-2)), np.abs(np.diff(values, axis=-1))
    steps = (down.reshape(*values.shape[:2], -1).mean(-1) + along.reshape(*values.shape[:2], -1).mean(-1)) / 2
    bent = np.diff(np.diff(values, n=2, axis=-2), n=2, axis=-1)
    noise = np.sqrt(np.pi / 2) / 6 * np.abs(bent).reshape(*values.shape[:2], -1).mean(-1)
    p5, p50, p95 = np.percentile(flat_values, [5, 50, 95], axis=-1)
    sharpness = steps / np.maximum(deviation, 1e-6)
    columns = [flat_values.mean(-1), deviation, p5, p50, p95, sharpness, noise]
    return np.stack(columns, -1).mean(0).ravel().astype(np.float32)


def quality_figures(trained: Sequence[Subject], new: Sequence[Subject]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names and (N, F), (M, F) of the measured facts that the manifests hold; what is missing is the training median.

    A fact counts where it is no whole number (those are shapes and counts), is no time, and nearly every training
    subject has it; in seconds is only how long a recording is.
    """
    columns: list[tuple[str, np.ndarray, np.ndarray]] = []
    facts, new_facts = ([dict(flat(subject.facts)) for subject in subjects] for subjects in (trained, new))
    for name in dict.fromkeys(name for fact in facts for name in fact):
        if name.startswith("time ") or "seconds" in name or not any(isinstance(f.get(name), float) for f in facts):
            continue
        mine, theirs = (np.array([_number(f.get(name)) for f in rows]) for rows in (facts, new_facts))
        if np.isfinite(mine).mean() >= KNOWN and np.nanmax(mine) > np.nanmin(mine):
            usual = np.nanmedian(mine)
            mine, theirs = (np.where(np.isfinite(column), column, usual) for column in (mine, theirs))
            columns.append((words(name), mine, theirs))
    if not columns:
        return [], np.zeros((len(trained), 0)), np.zeros((len(new), 0))
    names, mine_columns, new_columns = zip(*columns, strict=True)
    return list(names), np.stack(mine_columns, 1), np.stack(new_columns, 1)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _of_all(source: CropSource, contract: Contract) -> np.ndarray:
    rows = []
    with Progress("figures", len(source), unit="subjects") as progress:
        for subject in range(len(source)):
            rows.append(figures_of(source.batch([subject] * CROPS, range(CROPS)).crops[:, 0]))
            progress.advance()
    return np.stack(rows)
