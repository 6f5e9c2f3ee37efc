"""next: which patients or drives to label next, so that few labels cover the archive; never looks at their labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.cluster import KMeans

from domains.domain import load
from domains.errors import NothingUsable, UsageError
from domains.head import Prediction
from domains.manifest import Manifest, Subject
from domains.recipe import Recipe
from domains.splits import budget_order, budget_units, split
from domains.store import Missing, Store
from pipelines.dataset import open_dataset
from pipelines.embed import embeddings
from pipelines.finetune import finetune
from pipelines.models import open_model, predictor
from pipelines.pretrain import Trained, pretrain
from pipelines.progress import Progress

STRATEGIES = ("random", "foreground_aware_random", "next")
STAGES = (3, 10, 30)
"""Label budgets at which `order` clusters anew; in between it goes on in the clusters it has."""
NEIGHBOURS = 20
SMALL_CLUSTER = 5
"""Both as in the paper: neighbours that typicality looks at, and the largest cluster that is left out."""
UNCERTAIN_FROM = 10
"""Labelled groups from which a model's opinion counts; below, coverage alone is the better guide."""
RIM = 2
"""Voxels (or pixels) around the predicted foreground that belong to it when uncertainty is measured."""


@dataclass(frozen=True)
class Choice:
    """One group to label, and why."""

    index: int
    """Row of the embeddings."""
    cluster_size: int
    cluster_labelled: int
    """Members of the cluster that were labelled or chosen before this one."""
    typicality: float
    """Inverse mean distance to the neighbours in its cluster, in standardised features; 0 when it is alone."""
    foreground: float | None
    """Expected share of the subject, 0..1."""
    uncertainty: float | None
    """0..1; None while it has no say."""

    def says(self) -> str:
        """Why this one, in words."""
        text = f"cluster of {self.cluster_size} groups, {self.cluster_labelled or 'none'} of them covered before, "
        text += f"typicality {self.typicality:.3g}"
        text += "" if self.foreground is None else f", expected foreground {self.foreground:.2%}"
        return text + ("" if self.uncertainty is None else f", uncertainty {self.uncertainty:.2f}")


def choose(
    embeddings: np.ndarray, labelled: Sequence[int], count: int, *,
    uncertainty: np.ndarray | None = None, foreground: np.ndarray | None = None, seed: int = 0,
) -> list[Choice]:  # fmt: skip
    """The next `count` groups to label, best first: from each large cluster without a label its most typical member.

    The archive falls into as many clusters as there will be labels. Clusters with the fewest labels come first, the
    large ones before the small. In a cluster the member wins whose product of ranks is highest: typicality in the
    cluster, expected foreground in the archive, and, from ten labelled groups on, uncertainty in the archive. Ranks,
    because the three have no common unit and the expected foreground is off by orders of magnitude where it is wrong.

    Args:
        embeddings: (N, E), labelled and unlabelled groups; each dimension is standardised here.
        labelled: rows that have a label.
        count: how many more; fewer come back when fewer are left.
        uncertainty: (N,) higher is less sure, or None without a model.
        foreground: (N,) expected foreground >= 0, or None: then every group teaches the same.
        seed: of k-means.

    Source: Hacohen, Dekel, Weinshall 2022, "Active Learning on a Budget", arXiv 2202.02794 (TypiClust).
    Differs: weighs typicality by expected foreground and uncertainty, and cluster sizes by expected foreground (an
    empty patient teaches a segmentation head little); clusters are left out below five members only while the mean
    cluster has more than ten, else below half the mean: patients are counted in dozens, not in tens of thousands.
    """
    labelled = list(labelled)
    taken = np.isin(np.arange(len(embeddings)), labelled)
    count = min(count, int((~taken).sum()))
    if count <= 0:
        return []
    features = standardised(embeddings)
    cluster = clusters(features, len(labelled) + count, seed)
    typical = np.zeros(len(features))
    for at in np.unique(cluster):
        typical[cluster == at] = typicality(features[cluster == at])
    teaches = np.ones(len(features)) if foreground is None else rank_share(foreground)
    if uncertainty is not None and len(labelled) < UNCERTAIN_FROM:
        uncertainty = None
    unsure = np.ones(len(features)) if uncertainty is None else rank_share(uncertainty)
    chosen = []
    for _ in range(count):
        at = _least_covered(cluster, taken, teaches)
        members = np.flatnonzero((cluster == at) & ~taken)
        best = int(members[np.argmax(rank_share(typical[members]) * teaches[members] * unsure[members])])
        chosen.append(
            Choice(
                best, int((cluster == at).sum()), int((taken & (cluster == at)).sum()), float(typical[best]),
                None if foreground is None else float(foreground[best]),
                None if uncertainty is None else float(uncertainty[best]),
            )
        )  # fmt: skip
        taken[best] = True
    return chosen


def _least_covered(cluster: np.ndarray, taken: np.ndarray, teaches: np.ndarray) -> int:
    """The cluster with something left that comes next: not a small one, fewest labels, then largest."""
    sizes = np.bincount(cluster)
    smallest = min(SMALL_CLUSTER + 1, sizes.mean() / 2)
    labels, left = np.bincount(cluster, weights=taken), np.bincount(cluster, weights=~taken)
    weight = np.bincount(cluster, weights=teaches)
    open_ones = [int(at) for at in np.flatnonzero(left)]
    return min(open_ones, key=lambda at: (sizes[at] < smallest, labels[at], -weight[at]))


def typicality(members: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """(M, E) members of a cluster -> (M,) inverse mean Euclidean distance to the nearest `neighbours` of them.

    All the others where the cluster is smaller: its most central member is then the most typical. 0 for a cluster of
    one; members that coincide count as 1e-9 apart.
    """
    if len(members) == 1:
        return np.zeros(1)
    distances = np.sort(cdist(members, members), axis=1)[:, 1 : neighbours + 1]  # column 0 is the member itself
    return np.asarray(1 / np.maximum(distances.mean(1), 1e-9))


def clusters(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(N,) cluster of each row, 0..; at most `count` clusters, fewer when rows coincide."""
    count = min(count, len(np.unique(features, axis=0)))
    found = KMeans(n_clusters=count, n_init=10, random_state=seed).fit_predict(features)
    return np.unique(found, return_inverse=True)[1]


def standardised(embeddings: np.ndarray) -> np.ndarray:
    """(N, E) float64, every dimension with mean 0 and standard deviation 1; constant ones are 0."""
    rows = np.asarray(embeddings, dtype=np.float64)
    spread = rows.std(0)
    return (rows - rows.mean(0)) / np.where(spread > 1e-12, spread, 1.0)


def rank_share(values: np.ndarray) -> np.ndarray:
    """(N,) share of the values that are not larger, in (0, 1]; equal values share their mean rank."""
    return np.asarray(rankdata(values)) / len(values)


def greedy(embeddings: np.ndarray, foreground: np.ndarray | None, seed: int) -> list[int]:
    """All rows in the order in which they would be labelled: 3, then given these up to 10, then 30, then the rest."""
    chosen: list[int] = []
    for stage in (*STAGES, len(embeddings)):
        picked = choose(embeddings, chosen, stage - len(chosen), foreground=foreground, seed=seed)
        chosen += [choice.index for choice in picked]
    return chosen


def foreground_aware_random(foreground: np.ndarray, seed: int) -> list[int]:
    """All rows in random order, drawn without replacement with probability proportional to the rank of foreground.

    The rank, not the figure: one false alarm that fills half a subject must not be drawn nearly always.

    Source: Efraimidis, Spirakis 2006, "Weighted random sampling with a reservoir" (the exponential keys).
    """
    arrivals = np.random.default_rng(seed).exponential(size=len(foreground)) / rank_share(foreground)
    return [int(i) for i in np.argsort(arrivals)]


def order(
    strategy: str, recipe: Recipe, home: Path, encoder: Path | None, manifest: Manifest, subjects: Sequence[Subject],
    seed: int, strata: Mapping[str, int] | None = None,
) -> list[str]:  # fmt: skip
    """Every group of the subjects in the order of a strategy; a label budget K is its first K, so budgets are nested.

    No label of the subjects is read here. `random` is the order of `domains.splits.label_budget`.

    Args:
        strategy: one of STRATEGIES.
        recipe: whose head says what foreground to expect.
        home: the store.
        encoder: folder of an encoder for `next`, or None for random weights.
        manifest: how the subjects were prepared.
        subjects: the unlabelled ones, as far as the strategy may know.
        seed: of the draw, and of k-means.
        strata: class of each group, for `random` alone, where the head's labels are classes.

    Raises:
        UsageError: there is no such strategy, or the head has no foreground to expect.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown strategy {strategy!r}; strategies are {', '.join(STRATEGIES)}")
    head = load(recipe.domain).heads[recipe.head]
    subjects = budget_units(subjects, head.counts_subjects)
    groups = budget_order(subjects, seed, strata if strategy == "random" else None)
    if strategy == "random":
        return groups
    foreground = None
    if head.dense:
        foreground = by_group(expected_foreground(recipe, home, manifest, subjects)[:, 0], subjects, groups)
    if strategy == "foreground_aware_random":
        if foreground is None:
            raise UsageError(f"the head {recipe.head} outlines nothing, so there is no foreground to expect")
        return [groups[i] for i in foreground_aware_random(foreground, seed)]
    rows = by_group(embeddings(encoder, home, recipe, manifest, subjects), subjects, groups)
    return [groups[i] for i in greedy(rows, foreground, seed)]


def by_group(values: np.ndarray, subjects: Sequence[Subject], groups: Sequence[str]) -> np.ndarray:
    """(N, ...) values of subjects -> (G, ...) their means within each group."""
    of = np.array([subject.group_id for subject in subjects])
    return np.stack([values[of == group].mean(0) for group in groups])


def expected_foreground(
    recipe: Recipe, home: Path, manifest: Manifest, subjects: Sequence[Subject], model: Path | None = None
) -> np.ndarray:
    """(N, 2) float64: the share of each subject that should be foreground, and how unsure that is.

    From a model's prediction, else from the head's trivial competitor, which is never unsure (nan). Kept in the store
    subject by subject.
    """
    store, head = Store(Path(home)), load(recipe.domain).heads[recipe.head]
    loaded = open_model(model) if model is not None else None
    if loaded:
        manifest.contract.check(loaded.contract, mine="the data", theirs="the model")
    contract = loaded.contract if loaded else manifest.contract
    by = [loaded.info["sha256"], loaded.recipe.precision] if loaded else ["trivial"]
    keys = [store.key("expected", [recipe.head, by, contract.model_dump(mode="json"), s.entry]) for s in subjects]
    missing = {key: s for key, s in zip(keys, subjects, strict=True) if store.get("expected", key) is None}
    if missing:
        predict = predictor(loaded) if loaded else lambda entry: head.trivial(entry, contract)

        def facts(subject: Subject) -> dict[str, float | None]:
            prediction = predict(store.path("ingest", subject.entry))
            unsure = uncertainty_of(prediction) if loaded else None
            return {"foreground": float(1 - prediction[0].mean()), "uncertainty": unsure}

        with Progress("expected foreground", len(missing), unit="subjects") as progress:
            for key, subject in missing.items():
                store.build("expected", key, lambda _, subject=subject: facts(subject))  # type: ignore[misc]
                progress.advance()
    found = [store.facts("expected", key) for key in keys]
    return np.array([[f["foreground"], f["uncertainty"]] for f in found], dtype=np.float64).reshape(-1, 2)


def uncertainty_of(prediction: Prediction) -> float:
    """Mean entropy of the classes over the predicted foreground and its rim, 0..1; around the likeliest place if none.

    Args:
        prediction: (K, *S) probabilities, background first.
    """
    found = prediction.argmax(0) > 0
    if not found.any():
        found = prediction[0] == prediction[0].min()
    region = ndimage.binary_dilation(found, iterations=RIM)
    inside = np.clip(prediction[:, region], 1e-7, 1)
    return float(-(inside * np.log(inside)).sum(0).mean() / np.log(len(prediction)))


@dataclass(frozen=True)
class Suggestion:
    """What to label next, and what the choice rests on."""

    choices: tuple[tuple[str, tuple[Subject, ...], Choice], ...]
    """(group, its subjects, why), best first; empty when every development group has a label."""
    groups: int
    """Development groups."""
    labelled: int
    """Of these, with a label."""
    partly_labelled: int
    """Of the labelled ones, with subjects that have none."""
    encoder: Path | None
    """Whose embeddings were used; None: random weights, for want of a pretrained encoder."""
    model: Path | None
    """Whose uncertainty was used."""


def next_groups(recipe: Recipe, home: Path, count: int) -> Suggestion:
    """The next `count` development groups to label, from the recipe's newest data, its encoder and its model.

    Held-out groups are never suggested. With fewer than three groups the subjects take their place, as in the split.

    Raises:
        UsageError: nothing was ingested.
        NothingUsable: no development subject.
    """
    manifest, labels = open_dataset(recipe, home)
    parts = split(manifest.subjects, recipe.fold)
    subjects = parts.development
    head = load(recipe.domain).heads[recipe.head]
    subjects = budget_units(subjects, parts.within_group or head.counts_subjects)
    if not subjects:
        raise NothingUsable("no development subject to label: every group is held out; ingest more groups")
    groups = budget_order(subjects, recipe.seed)
    has_label = {s.group_id for s in subjects if s.subject_id in labels.entries}
    partly = {s.group_id for s in subjects if s.subject_id not in labels.entries} & has_label
    labelled = [i for i, group in enumerate(groups) if group in has_label]
    if len(labelled) == len(groups):
        return Suggestion((), len(groups), len(labelled), len(partly), None, None)
    encoder = _in_store(lambda: pretrain(recipe, home))
    model, dense = None, head.dense
    if dense and len(labelled) >= UNCERTAIN_FROM and not parts.within_group:
        model = _in_store(lambda: finetune(recipe, home, encoder=encoder))
    rows = by_group(embeddings(encoder, home, recipe, manifest, subjects), subjects, groups)
    foreground = uncertainty = None
    if dense:
        expected = by_group(expected_foreground(recipe, home, manifest, subjects, model), subjects, groups)
        foreground, uncertainty = expected[:, 0], expected[:, 1] if model else None
    chosen = choose(rows, labelled, count, foreground=foreground, uncertainty=uncertainty, seed=recipe.seed)
    found = [(groups[c.index], tuple(s for s in subjects if s.group_id == groups[c.index]), c) for c in chosen]
    return Suggestion(tuple(found), len(groups), len(labelled), len(partly), encoder, model)


def _in_store(verb: Callable[[], Trained]) -> Path | None:
    """The folder that a verb gives without computing, or None."""
    try:
        with Store.only_looking():
            return verb().folder
    except Missing:
        return None
