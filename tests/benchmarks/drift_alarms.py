"""How often drift raises an alarm: when nothing changed, under disturbances, for another site; on real data, by hand.

    python tests/benchmarks/drift_alarms.py RECIPE SOURCE [--encoder FOLDER] [--part-by site|view] [--home DIR]

Not a bench_*.py: it needs real data and minutes. Prints the tables of docs/drift.md as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from domains.domain import find_recipe, load
from domains.identity import Identity
from domains.manifest import Manifest, Subject
from domains.recipe import Recipe
from domains.store import Store
from pipelines import drift_distance, embed
from pipelines.dataset import open_dataset, subject_entries
from pipelines.drift_distance import pseudo_new
from pipelines.drift_figures import _of_all, crop_names, quality_figures
from pipelines.drift_judge import EMBEDDING, Looks, compare_looks, looks_of
from pipelines.ingest import ingest
from pipelines.models import open_model
from ssl_models import disturb
from ssl_models.protocols import Batch

GROUPS = (3, 10, 20)
NULLS, TRIALS = 200, 40
STRENGTHS: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "noise": {"NOISE": (0.0375, 0.075, 0.15)},
    "blur": {"BLUR_PIXELS": (0.4, 0.7)},
    "contrast": {"CONTRAST": (0.9, 0.75)},
    "scanner": {"FIELD": (0.05,), "GAMMA": (0.9,)},
}
"""Of each disturbance, all weaker than in studies."""


@dataclass(frozen=True)
class Rows:
    """Subjects as they come out of the store: (N, F) figures and (N, E) embeddings."""

    names: list[str]
    figures: np.ndarray
    embeddings: np.ndarray
    groups: list[str]


class DisturbedCrops:
    """A source whose crops are disturbed."""

    def __init__(self, source: Any, name: str, time_axis: bool) -> None:
        self.source, self.name, self.time_axis = source, name, time_axis

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        batch = self.source.batch(subjects, seeds, crops)
        shape = batch.crops.shape
        seen = disturb.NAMES[self.name](batch.crops.flatten(0, 1).contiguous(), self.time_axis) if self.name else None
        return batch if seen is None else replace(batch, crops=seen.reshape(shape))


def rows_of(
    home: Path, recipe: Recipe, manifest: Manifest, subjects: Sequence[Subject], encoder: Path | None, name: str = "",
) -> Rows:  # fmt: skip
    """The subjects' rows, their crops disturbed; the quality figures of the manifest stay as they are."""
    contract = manifest.contract
    source = load(recipe.domain).crops(subject_entries(Store(home), subjects), None, subjects, contract, recipe, False)
    seen = DisturbedCrops(source, name, contract.time_axis)
    loaded = open_model(encoder) if encoder else None
    network = embed._network(loaded.recipe if loaded else recipe, contract, loaded)
    names, quality, _ = quality_figures(subjects, [])
    figures = np.hstack([quality, _of_all(seen, contract)]).astype(np.float64)
    seen_rows = embed._embed(network, seen, recipe.precision, contract)
    return Rows([*names, *crop_names(contract)], figures, seen_rows, [s.group_id for s in subjects])


def looks(rows: Rows, trained: Sequence[int], new: Sequence[int], other: Rows) -> Looks:
    """Training rows of `rows` against new rows of `other`, scaled by the training rows alone."""
    pairs = [(a[list(trained)], b[list(new)]) for a, b in
             ((rows.figures, other.figures), (rows.embeddings, other.embeddings))]  # fmt: skip
    return looks_of(rows.names, pairs[0], pairs[1])


def alarms(found: Looks, plain: np.ndarray, groups: Sequence[str], new_groups: Sequence[str]) -> dict[str, bool]:
    """Ways of asking -> whether there is an alarm at 5 %. "all" is what the verb does."""
    mine, theirs = list(range(len(groups))), list(range(len(new_groups)))
    columns = [np.vstack(pair) for pair in zip(found.trained, found.new, strict=True)]
    rows, figures = columns[found.names.index(EMBEDDING)], columns[: found.names.index(EMBEDDING)]
    new = np.arange(len(rows)) >= len(mine)
    return {
        "all": compare_looks(found, mine, theirs, groups, new_groups, 0.05).alarm,
        "joint": other_way([partial(energy_of, one) for one in (*figures, rows)], new),
        "figures": other_way([partial(energy_of, one) for one in figures], new),
        "embedding": other_way([partial(energy_of, rows)], new),
        "KS": other_way([partial(kolmogorov_smirnov, one[:, 0]) for one in figures], new),
        "Wasserstein": other_way([partial(wasserstein, one[:, 0]) for one in figures], new),
        "plain embedding": other_way([partial(energy_of, plain)], new),
        "Frechet": other_way([partial(frechet, rows)], new),
        "MMD": other_way([partial(mmd, rows)], new),
    }


Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(B, N) bool, (B, N) bool: two sets of rows -> (B,)."""


def other_way(distances: Sequence[Distance], new: np.ndarray) -> bool:
    """As `compare` does it, with other distances between sets of single subjects."""
    trained, generator = np.flatnonzero(~new), np.random.default_rng(0)
    count = max(1, min(int(new.sum()), len(trained) // drift_distance.LARGEST_SHARE))
    drawn = pseudo_new(trained, len(new), count, generator)
    looks, references = drift_distance._looks(new, trained, count, generator)
    pseudo = np.array([distance(drawn, ~new & ~drawn) for distance in distances])
    seen = np.array([distance(looks, references).mean() for distance in distances])
    middle, spread = pseudo.mean(1), pseudo.std(1) + 1e-12
    largest = np.sort(((pseudo - middle[:, None]) / spread[:, None]).max(0))
    return bool(((seen - middle) / spread).max() > largest[int(np.ceil(0.95 * (len(largest) + 1))) - 1])


def steps(column: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(B, N) distance of the two distribution functions at every value; 0 before the last of equal ones."""
    order = np.argsort(column)
    last = np.append(np.diff(column[order]) > 0, True)
    sides = [side[:, order].cumsum(1) / side.sum(1, keepdims=True) for side in (a, b)]
    return np.abs(sides[0] - sides[1]) * last


def kolmogorov_smirnov(column: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The largest step apart."""
    return steps(column, a, b).max(1)


def wasserstein(column: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The area between the distribution functions."""
    return (steps(column, a, b)[:, :-1] * np.diff(np.sort(column))).sum(1)


def frechet(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of two Gaussians with these rows' means and variances along each component."""
    means = [side @ rows / side.sum(1, keepdims=True) for side in (a.astype(float), b.astype(float))]
    squares = [side @ np.square(rows) / side.sum(1, keepdims=True) for side in (a.astype(float), b.astype(float))]
    spreads = [np.sqrt(np.maximum(s - np.square(m), 0)) for s, m in zip(squares, means, strict=True)]
    return np.square(means[0] - means[1]).sum(1) + np.square(spreads[0] - spreads[1]).sum(1)


def energy_of(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Energy distance of rows as they are."""
    return drift_distance.energy(cdist(rows, rows), a, b)


def mmd(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Unbiased squared maximum mean discrepancy with a Gaussian kernel of the width sqrt(E)."""
    kernel = np.exp(-cdist(rows, rows, "sqeuclidean") / (2 * rows.shape[1]))
    return -drift_distance.energy(kernel, a, b)


def rates(
    rows: Rows, other: Rows, pool: Sequence[int], new_pool: Sequence[int], count: int, trials: int, held: bool
) -> dict[str, float]:
    """Shares of alarms over random draws of `count` new ones; `held`: both pools are the same subjects."""
    generator = np.random.default_rng(1)
    said: dict[str, int] = {}
    for _ in range(trials):
        new = generator.permutation(list(new_pool))[:count]
        trained = [i for i in pool if i not in set(new)] if held else list(pool)
        found = looks(rows, trained, list(new), other)
        plain = np.vstack([rows.embeddings[trained], other.embeddings[list(new)]])
        plain = (plain - plain.mean(0)) / (plain.std(0) + 1e-9)
        for way, alarm in alarms(
            found, plain, [rows.groups[i] for i in trained], [other.groups[i] for i in new]
        ).items():
            said[way] = said.get(way, 0) + alarm
    return {way: round(number / trials, 3) for way, number in said.items()}


def one_a_group(subjects: Sequence[Subject]) -> list[Subject]:
    """The alternatives to energy know no groups: here every group has one subject."""
    return list({s.group_id: s for s in sorted(subjects, key=lambda s: s.content_digest)}.values())


def parts_by(what: str, source: Path, recipe: Recipe, subjects: Sequence[Subject]) -> dict[str, list[int]]:
    """Institution (third field of a TCGA case) or view -> rows."""
    if what == "view":
        named = [str(s.facts.get("view")) for s in subjects]
    else:
        scan, identity = load(recipe.domain).scan(source, recipe), Identity()
        names = {identity.keyed("subject", scan.namespace, c.name): c.name for c in scan.candidates}
        named = [names[s.subject_id].split("TCGA_")[1][:2] for s in subjects]
    return {name: [i for i, one in enumerate(named) if one == name] for name in sorted(set(named))}


def measured(rows: Rows, disturbed: Callable[[str], Rows], parts: Mapping[str, list[int]]) -> Iterator[dict[str, Any]]:
    """One dict a line of the tables."""
    everyone = list(range(len(rows.groups)))
    for count in GROUPS:
        yield {"what": "nothing", "new": count, **rates(rows, rows, everyone, everyone, count, NULLS, True)}
    largest = max(parts, key=lambda name: len(parts[name])) if parts else ""
    for name, members in parts.items():
        for count in GROUPS:
            same = name == largest
            if len(members) >= count + (10 if same else 0):
                found = rates(rows, rows, parts[largest], members, count, NULLS if same else TRIALS, same)
                yield {"what": f"{name} against {largest}", "new": count, "trained": len(parts[largest]), **found}
    for name, settings in STRENGTHS.items():
        usual = {constant: getattr(disturb, constant) for constant in settings}
        for strength in range(len(next(iter(settings.values())))):
            for constant, values in settings.items():
                setattr(disturb, constant, values[strength])
            other = disturbed(name)
            for count in GROUPS:
                found = rates(rows, other, everyone, everyone, count, TRIALS, True)
                yield {"what": f"{name} {[v[strength] for v in settings.values()]}", "new": count, **found}
        for constant, value in usual.items():
            setattr(disturb, constant, value)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("source", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--part-by", default="")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--most", type=int, default=200)
    asked = parser.parse_args()
    _, recipe = find_recipe(asked.recipe)
    ingest(asked.source, recipe, asked.home)
    manifest, _ = open_dataset(recipe, asked.home)
    subjects = one_a_group(manifest.subjects)[: asked.most]
    parts = parts_by(asked.part_by, asked.source, recipe, subjects) if asked.part_by else {}
    rows = rows_of(asked.home, recipe, manifest, subjects, asked.encoder)
    print(len(subjects), "groups", {name: len(p) for name, p in parts.items()}, file=sys.stderr)
    for line in measured(
        rows, lambda name: rows_of(asked.home, recipe, manifest, subjects, asked.encoder, name), parts
    ):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
