"""Map of the archive: subjects on a plane by what an encoder sees in them, with near-duplicates and outliers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from domains import domain as domains_by_name
from domains.manifest import Manifest, Subject
from domains.store import Store
from pipelines.embed import embeddings
from pipelines.models import open_model
from pipelines.report_data import flat, words
from pipelines.report_figures import data_uri

FEWEST = 4
"""Subjects; fewer are looked at one by one."""
FEWEST_TSNE = 10
NEIGHBOURS = 5
FALSE_ALARM = 0.05
"""Chance that an archive without near-duplicates is told to have one, if its cloud is locally even."""
FAR_BELOW = 0.25
"""A near-duplicate is at most at this share of the distance to the last of the neighbours, whatever the cloud."""
OUTLYING = 3.0
"""Robust deviations above the median."""
FOLLOWED = 0.3
"""Rank correlation of a fact with its mean over neighbours from which the map is said to follow it."""
MOST_GROUPS = 8
THIRDS = ("#3b4cc0", "#9aa0a6", "#c8401f")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e6a700", "#56b4e9", "#000000", "#7f7f7f")
UNKNOWN = "not known"
MOST_SUBJECTS = 500
"""In a report's map: embedding costs about a third of a second for each, once."""
MOST_SHOWN = 24
"""Outliers and near-duplicates with a picture each."""
SHORT = 6
"""Digits of a subject id in the picture."""


def section(store: Store, network: Path, manifest: Manifest) -> dict[str, Any] | None:
    """The map as a report's template takes it: what `archive_map` found, its picture, and one of each odd subject.

    Args:
        store: where the subjects are; those that are gone are left out.
        network: folder of the encoder, or of a model, whose eyes are used.
        manifest: the archive; of a large one `MOST_SUBJECTS`, evenly spread.

    Returns:
        None where there are too few subjects for a map.
    """
    if manifest.contract.domain not in domains_by_name.names():
        return None
    there = [subject for subject in manifest.subjects if store.get("ingest", subject.entry)]
    subjects = there[:: -(-len(there) // MOST_SUBJECTS) or 1]
    if len(subjects) < FEWEST:
        return None
    rows = embeddings(network, store.home, open_model(network).recipe, manifest, subjects)
    found = archive_map(rows, subjects)
    entries = {subject.subject_id: store.path("ingest", subject.entry) for subject in subjects}
    odd = dict.fromkeys([i for pair in found["near_duplicates"] for i in pair["subjects"]] + found["outliers"])
    picture = domains_by_name.load(manifest.contract.domain).picture
    return {
        **found, "total": len(manifest.subjects), "picture": data_uri(draw(found)),
        "thumbnails": {i: data_uri(picture(entries[i])) for i in list(odd)[:MOST_SHOWN]},
    }  # fmt: skip


def archive_map(rows: np.ndarray, subjects: Sequence[Subject]) -> dict[str, Any]:
    """Where each subject lies, what lies beside it, and which subjects are too near to or too far from others.

    Near-duplicates: pairs far nearer by cosine than what else is around them, see `near_share`. Outliers: the mean
    Euclidean distance to the `NEIGHBOURS` nearest is more than `OUTLYING` robust deviations (1.4826 times the median
    absolute deviation) above the median; length is kept there because an odd scan is mostly one with large features.

    Args:
        rows: (N, E) embeddings, see `pipelines.embed`; N is at least `FEWEST`.
        subjects: N, in the order of the rows.

    Returns:
        JSON: method, colour (what the groups are), group_names, follows, near_share, near_duplicates, outliers, and
        for each subject id, x, y, group, nearest, distance (cosine, to the nearest) and outlier_score.
    """
    if len(rows) != len(subjects) or len(rows) < FEWEST:
        raise ValueError(f"{len(rows)} rows for {len(subjects)} subjects; a map needs at least {FEWEST}")
    ids = [subject.subject_id for subject in subjects]
    features = standardised(rows)
    angles, beside = nearest(features, "cosine")
    lengths, around = nearest(features, "euclidean")
    scores = outlier_scores(lengths.mean(1))
    follows = followed(subjects, around)
    colour, names, groups = colour_groups(subjects, follows)
    method, places = lay_out(features)
    return {
        "method": method, "colour": colour, "group_names": names, "near_share": near_share(angles),
        "follows": [{"fact": name, "correlation": value} for name, value in follows],
        "near_duplicates": [
            {"subjects": [ids[i], ids[j]], "distance": distance} for i, j, distance in near_pairs(angles, beside)
        ],
        "outliers": [ids[i] for i in np.argsort(-scores, kind="stable") if scores[i] > OUTLYING],
        "subjects": [
            {"id": ids[i], "x": float(places[i, 0]), "y": float(places[i, 1]), "group": groups[i],
             "nearest": ids[beside[i, 0]], "distance": float(angles[i, 0]), "outlier_score": float(scores[i])}
            for i in range(len(ids))
        ],
    }  # fmt: skip


def standardised(rows: np.ndarray) -> np.ndarray:
    """(N, E') float64 columns of mean 0 and deviation 1; columns that do not vary are left out."""
    wide = rows.astype(np.float64)
    deviation = wide.std(0)
    varies = deviation > 1e-6 * np.abs(wide).max(initial=0.0)
    return (wide[:, varies] - wide[:, varies].mean(0)) / deviation[varies] if varies.any() else np.zeros((len(rows), 1))


def near_share(distances: np.ndarray) -> float:
    """Share of the distance to the k-th neighbour below which a neighbour is a near-duplicate.

    In a cloud of dimension m that is even around a subject, the nearest of k neighbours is nearer than a share t of
    the k-th one's distance with the chance 1 - (1 - t^m)^(k - 1), however dense the cloud is there. The third quartile
    of the shares tells m, so most subjects may have a duplicate without hiding it. The limit is the share that one of
    N subjects falls below with the chance `FALSE_ALARM`, and at most `FAR_BELOW`.

    Args:
        distances: (N, k) of each subject to its neighbours, nearest first, k >= 2.
    """
    nearest, last = distances[:, 0], distances[:, -1]
    upper = float(np.quantile(nearest[last > 0] / last[last > 0], 0.75)) if last.any() else 0.0
    if not 0 < upper < 1:
        return 0.0
    others = distances.shape[1] - 1
    per_dimension = np.log(upper) / np.log1p(-(0.25 ** (1 / others)))  # 1 / m
    allowed = -np.expm1(np.log1p(-FALSE_ALARM / len(distances)) / others)
    return float(min(FAR_BELOW, allowed**per_dimension))


def near_pairs(distances: np.ndarray, others: np.ndarray) -> list[tuple[int, int, float]]:
    """Near-duplicates (i, j, distance), nearest first: below the share of the farther neighbours of both."""
    reach = near_share(distances) * distances[:, -1]
    pairs = {
        (min(i, int(j)), max(i, int(j)), float(distance))
        for i, row in enumerate(zip(others, distances, strict=True))
        for j, distance in zip(*row, strict=True)
        if distance < min(reach[i], reach[j])
    }
    return sorted(pairs, key=lambda pair: (pair[2], pair))


def outlier_scores(distances: np.ndarray) -> np.ndarray:
    """(N,) robust deviations above the median; 0 where the distances do not spread."""
    above = distances - np.median(distances)
    spread = 1.4826 * float(np.median(np.abs(above)))
    scores: np.ndarray = above / spread if spread > 0 else np.zeros_like(above)
    return scores


def followed(subjects: Sequence[Subject], around: np.ndarray) -> list[tuple[str, float]]:
    """Numeric facts that neighbours share, strongest first: (name, Spearman correlation with the neighbours' mean).

    A fact whose correlation is below `FOLLOWED`, or that is equal to one before it, is left out.
    """
    from scipy.stats import spearmanr

    found: dict[tuple[float, ...], tuple[str, float]] = {}
    facts = [dict(flat(subject.facts)) for subject in subjects]
    for name in facts[0]:
        column = [fact.get(name) for fact in facts]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
            values = np.array(column, dtype=np.float64)
            if len(set(column)) >= FEWEST and tuple(values) not in found:
                correlation = float(spearmanr(values, values[around].mean(1)).statistic)
                if correlation >= FOLLOWED:
                    found[tuple(values)] = (words(name), correlation)
    return sorted(found.values(), key=lambda pair: -pair[1])


def colour_groups(
    subjects: Sequence[Subject], follows: Sequence[tuple[str, float]]
) -> tuple[str, list[str], list[int]]:
    """What the colours mean, the groups' names, and each subject's group.

    The site where the facts name several; else thirds of the fact that neighbours share most; else of the first
    quality figure that varies; else one group.
    """
    facts = [{words(name): value for name, value in flat(subject.facts)} for subject in subjects]
    sites = [str(fact.get("Site", UNKNOWN)) for fact in facts]
    if len(set(sites)) > 1:
        return "Site", *_named(sites)
    quality = [name for name in facts[0] if name.startswith("Quality")]
    for name in [*(name for name, _ in follows), *quality]:
        values = [fact.get(name) for fact in facts]
        if all(isinstance(value, int | float) for value in values):
            low, high = np.quantile(np.array(values, dtype=np.float64), [1 / 3, 2 / 3])
            if low < high:
                names = [f"up to {low:.3g}", f"{low:.3g} to {high:.3g}", f"above {high:.3g}"]
                return name, names, [int(value > low) + int(value > high) for value in values]
    return "", ["all subjects"], [0] * len(subjects)


def _named(words_of: Sequence[str]) -> tuple[list[str], list[int]]:
    """Names, the most frequent first and those beyond the colours together, and each one's index."""
    names = sorted(set(words_of), key=lambda name: (-words_of.count(name), name))
    if len(names) > MOST_GROUPS:
        names = [*names[: MOST_GROUPS - 1], "others"]
    return names, [names.index(name) if name in names else len(names) - 1 for name in words_of]


def nearest(features: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (N, k) of the nearest others, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(features) - 1)
    distances, others = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute").fit(features).kneighbors()
    return distances, others


def lay_out(features: np.ndarray) -> tuple[str, np.ndarray]:
    """The method's name and (N, 2) places: t-SNE of the leading principal components, those alone for few subjects.

    Source: van der Maaten and Hinton 2008, Visualizing Data using t-SNE, JMLR 9.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if not features.any():
        return "PCA", np.zeros((len(features), 2))
    kept = min(50, *features.shape)
    parts = PCA(n_components=kept, svd_solver="full").fit_transform(features)
    parts = np.pad(parts, ((0, 0), (0, max(0, 2 - kept))))
    if len(features) < FEWEST_TSNE:
        return "PCA", parts[:, :2]
    perplexity = min(30.0, (len(features) - 1) / 3)
    start = parts[:, :2] / parts[:, 0].std() * 1e-4
    return "t-SNE", TSNE(perplexity=perplexity, init=start, random_state=0).fit_transform(parts).astype(np.float64)


def draw(found: Mapping[str, Any]) -> bytes:
    """PNG of a map: a dot a subject, outliers ringed and tagged, near-duplicates framed and joined."""
    figure = Figure(figsize=(7.2, 5.4), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = {subject["id"]: (subject["x"], subject["y"]) for subject in found["subjects"]}
    colours = THIRDS if len(found["group_names"]) == len(THIRDS) and found["colour"] != "Site" else COLOURS
    for group, name in enumerate(found["group_names"]):
        dots = np.array([(s["x"], s["y"]) for s in found["subjects"] if s["group"] == group]).reshape(-1, 2)
        name = name.replace("$", r"\$")  # a site's name is not mathematics
        axes.scatter(dots[:, 0], dots[:, 1], s=34, color=colours[group], edgecolors="white", linewidths=0.6, zorder=3,
                     label=f"{name}  (n = {len(dots)})")  # fmt: skip
    _mark(axes, found, places)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"{found['method']} 1", fontsize=8, color="#555555")
    axes.set_ylabel(f"{found['method']} 2", fontsize=8, color="#555555")
    axes.margins(0.14)
    axes.spines[:].set_color("#cccccc")
    legend = figure.legend(loc="outside right upper", title=found["colour"] or None, frameon=False, fontsize=8.5)
    legend.get_title().set_fontweight("bold")
    legend.get_title().set_fontsize(8.5)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _mark(axes: Axes, found: Mapping[str, Any], places: Mapping[str, tuple[float, float]]) -> None:
    """Rings and tags of outliers, frames, lines and tags of near-duplicates."""
    for place, pair in enumerate(found["near_duplicates"]):
        ends = np.array([places[subject] for subject in pair["subjects"]])
        label = "near-duplicates" if place == 0 else None  # a pair often lies on one spot: a frame shows it there
        axes.plot(*ends.T, color="#111111", linewidth=1.2, zorder=4, label=label, marker="s", markersize=9,
                  markerfacecolor="none", markeredgewidth=1.1)  # fmt: skip
    if found["outliers"]:
        dots = np.array([places[subject] for subject in found["outliers"]])
        axes.scatter(dots[:, 0], dots[:, 1], s=120, facecolors="none", edgecolors="#111111", linewidths=1.1, zorder=4,
                     label="outlier")  # fmt: skip
    near = {pair["subjects"][0] for pair in found["near_duplicates"]}
    middle = np.median(np.array(list(places.values())), axis=0)
    for subject in sorted(near | set(found["outliers"])):
        right = places[subject][0] > middle[0]  # outwards, where fewer dots are
        beside = (9 if right else -9, -10 if subject in near else 5)
        axes.annotate(subject[:SHORT], places[subject], xytext=beside, textcoords="offset points",
                      ha="left" if right else "right", fontsize=7, family="monospace", color="#111111",
                      path_effects=[withStroke(linewidth=2.5, foreground="white")], zorder=5)  # fmt: skip
