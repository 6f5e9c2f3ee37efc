"""Which groups to label next: TypiClust's formula, coverage before all, and orders that never look at a label."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from lesion_entries import contract_for, write_entries

from domains.domain import load
from domains.errors import UsageError
from domains.manifest import Labels, Manifest, Subject
from domains.recipe import Recipe
from domains.splits import budget_order, split, split_bucket
from pipelines import next as module
from pipelines.next import (
    STRATEGIES,
    choose,
    clusters,
    expected_foreground,
    foreground_aware_random,
    greedy,
    next_groups,
    order,
    rank_share,
    standardised,
    typicality,
    uncertainty_of,
)


def heaps(*sizes: int, spread: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 4) in heaps far apart, and the heap of each."""
    rng = np.random.default_rng(seed)
    centres = 20 * rng.normal(size=(len(sizes), 4))
    of = np.repeat(np.arange(len(sizes)), sizes)
    return (centres[of] + spread * rng.normal(size=(len(of), 4))).astype(np.float32), of


def test_typicality__is_the_papers_formula() -> None:
    """(1/K * sum of ||x - x_i|| over the K nearest neighbours)^-1, written out."""
    points = np.random.default_rng(1).normal(size=(40, 3))
    for k in (1, 5, 20):
        for at, got in enumerate(typicality(points, k)):
            others = sorted(float(np.linalg.norm(points[at] - p)) for i, p in enumerate(points) if i != at)
            assert got == pytest.approx(1 / (sum(others[:k]) / k))


def test_typicality__small_clusters() -> None:
    line = np.array([[0.0], [1.0], [2.0], [5.0]])
    assert typicality(line, 20).argmax() == 1  # all the others are its neighbours: the most central one
    assert typicality(line[:1]).tolist() == [0.0]
    assert np.isfinite(typicality(np.zeros((3, 2)))).all()


def test_choose__without_weights_is_typiclust() -> None:
    points, of = heaps(30, 12, 20)
    chosen = choose(points, [], 3)
    assert [of[c.index] for c in chosen] == [0, 2, 1]  # the largest cluster first
    for choice in chosen:
        members = np.flatnonzero(of == of[choice.index])
        assert choice.index == members[typicality(standardised(points)[members]).argmax()]
        assert (choice.cluster_size, choice.cluster_labelled) == (len(members), 0)


def test_choose__clusters_with_a_label_wait() -> None:
    points, of = heaps(30, 12, 20)
    labelled = [0]  # of the largest
    chosen = choose(points, labelled, 2)
    assert [of[c.index] for c in chosen] == [2, 1]
    assert not {c.index for c in chosen} & set(labelled)


def test_choose__outliers_do_not_take_a_place() -> None:
    points, of = heaps(20, 20, 1)
    picked = [of[c.index] for c in choose(points, [], 3)]
    assert 2 not in picked and set(picked) == {0, 1}


def test_choose__empty_subjects_are_passed_over() -> None:
    points, _ = heaps(20, 20)
    foreground = np.where(np.arange(40) % 2, 0.02, 0.0)
    assert all(foreground[c.index] > 0 for c in choose(points, [], 2, foreground=foreground))
    same = np.full(40, 0.01)
    assert [c.index for c in choose(points, [], 2, foreground=same)] == [c.index for c in choose(points, [], 2)]


def test_choose__uncertainty_counts_from_ten_labels_on() -> None:
    points, _ = heaps(10, 40)
    for labelled, counts in ((range(9), False), (range(10), True)):
        alone = choose(points, labelled, 1)[0]
        unsure = (np.arange(50) != alone.index).astype(float)  # of all but the one that would be taken
        weighed = choose(points, labelled, 1, uncertainty=unsure)[0]
        assert (weighed.index != alone.index) == counts == (weighed.uncertainty == 1)


def test_choose__no_more_than_are_left_and_twins() -> None:
    points, _ = heaps(4, 3)
    assert sorted(c.index for c in choose(points, [0, 1], 99)) == [2, 3, 4, 5, 6]
    assert choose(points, range(7), 2) == []
    assert len(choose(np.zeros((5, 3)), [0], 2)) == 2
    assert len(choose(points[:1], [], 1)) == 1


def test_choose__covers_better_than_chance() -> None:
    points, of = heaps(25, 10, 8, 7)
    covered = len({of[c.index] for c in choose(points, [], 4)})
    rng = np.random.default_rng(0)
    by_chance = np.mean([len(set(of[rng.permutation(50)[:4]])) for _ in range(200)])
    assert covered == 4 > by_chance + 1


def test_clusters__the_same_every_time() -> None:
    points, _ = heaps(30, 20, spread=3.0)
    assert (clusters(points, 7, 0) == clusters(points, 7, 0)).all()
    assert set(clusters(points, 7, 0)) == set(range(7))


def test_greedy__every_row_once_and_budgets_nested() -> None:
    points, of = heaps(30, 12, 8)
    picked = greedy(points, np.ones(50), 0)
    assert sorted(picked) == list(range(50))
    first = [c.index for c in choose(points, [], 3, foreground=np.ones(50))]
    then = [c.index for c in choose(points, first, 7, foreground=np.ones(50))]
    assert picked[:10] == first + then
    assert len({of[i] for i in picked[:3]}) == 3


def test_foreground_aware_random__draws_in_proportion_to_rank() -> None:
    foreground = np.array([0.5, 0.0, 0.001, 0.01])  # ranks 4, 1, 2, 3
    firsts = np.bincount([foreground_aware_random(foreground, seed)[0] for seed in range(2000)], minlength=4) / 2000
    assert firsts == pytest.approx(np.array([0.4, 0.1, 0.2, 0.3]), abs=0.05)
    assert sorted(foreground_aware_random(foreground, 1)) == [0, 1, 2, 3]
    assert rank_share(foreground).tolist() == [1.0, 0.25, 0.5, 0.75]


def test_uncertainty_of__sure_unsure_and_empty() -> None:
    def prediction(inside: float, outside: float) -> np.ndarray:
        lesion = np.full((3, 12, 12), outside)
        lesion[1, 4:8, 4:8] = inside
        return np.stack([1 - lesion, lesion])

    sure, unsure = uncertainty_of(prediction(0.999, 0.001)), uncertainty_of(prediction(0.6, 0.4))
    missed = uncertainty_of(prediction(0.4, 0.01))
    assert 0 <= sure < 0.05 < missed < unsure <= 1
    assert uncertainty_of(np.full((2, 4, 4), 0.5)) == pytest.approx(1)


CONTRACT = contract_for("2d", (32, 32))


def subject(i: int, *, group: int | None = None) -> Subject:
    name = f"{i:04}"
    bucket = split_bucket("test", f"g{i if group is None else group}")
    return Subject(subject_id=f"s{name}", group_id=f"g{i if group is None else group:04}", split_bucket=bucket,
                   entry=f"e{name}", content_digest=f"d{name}", facts={})  # fmt: skip


SUBJECTS = tuple(subject(i, group=i // 2) for i in range(60))
MANIFEST = Manifest(recipe="brain_tumor", contract=CONTRACT, sources={}, records=(), subjects=SUBJECTS)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of networks and images: features and foreground from the subjects' ids, and no way to a label."""

    def number(s: Subject, salt: str) -> float:
        return split_bucket(salt, s.subject_id) / 1000

    def features(
        encoder: object, home: object, recipe: object, manifest: object, subjects: Sequence[Subject]
    ) -> object:
        return np.array([[number(s, axis) for axis in "xyz"] for s in subjects], dtype=np.float32)

    def expected(
        recipe: object, home: object, manifest: object, subjects: Sequence[Subject], model: object = None
    ) -> object:
        return np.array([[number(s, "foreground"), np.nan] for s in subjects])

    monkeypatch.setattr(module, "embeddings", features)
    monkeypatch.setattr(module, "expected_foreground", expected)


def labels_of(groups: int, monkeypatch: pytest.MonkeyPatch, subjects: tuple[Subject, ...] = SUBJECTS) -> set[str]:
    """The dataset, with labels for the first groups of its development side; both as `next_groups` will open them."""
    development = split(subjects).development
    has = {g for g in sorted({s.group_id for s in development})[:groups]}
    labels = Labels(recipe="brain_tumor", entries={s.subject_id: "l" for s in development if s.group_id in has})
    manifest = MANIFEST.model_copy(update={"subjects": subjects})
    monkeypatch.setattr(module, "open_dataset", lambda recipe, home: (manifest, labels))
    monkeypatch.setattr(module, "_in_store", lambda verb: None)
    return has


@pytest.mark.usefixtures("pretended")
def test_order__every_group_once_and_the_same_from_any_order(quick: Recipe, tmp_path: Path) -> None:
    for strategy in STRATEGIES:
        first, again, other = (
            order(strategy, quick, tmp_path, None, MANIFEST, subjects, seed)
            for subjects, seed in ((SUBJECTS, 0), (tuple(reversed(SUBJECTS)), 0), (SUBJECTS, 1))
        )
        assert sorted(first) == sorted({s.group_id for s in SUBJECTS})
        assert first == again
        assert first != other
    assert order("random", quick, tmp_path, None, MANIFEST, SUBJECTS, 0) == budget_order(SUBJECTS, 0)
    with pytest.raises(UsageError, match="strategies are random"):
        order("clever", quick, tmp_path, None, MANIFEST, SUBJECTS, 0)


def test_expected_foreground__of_the_trivial_competitor_and_kept(quick: Recipe, tmp_path: Path) -> None:
    one = subject(1)
    write_entries(tmp_path, CONTRACT)
    entry = tmp_path / "store" / "ingest" / one.entry
    entry.parent.mkdir(parents=True)
    (tmp_path / "subject").rename(entry)
    found = expected_foreground(quick, tmp_path, MANIFEST, [one, one])
    head = load(quick.domain).heads[quick.head]
    assert found.shape == (2, 2) and np.isnan(found[:, 1]).all()
    assert found[:, 0] == pytest.approx((head.trivial(entry, CONTRACT)[1] > 0.5).mean())
    assert 0 < found[0, 0] < 0.2
    shutil.rmtree(entry)  # from the store now
    assert (expected_foreground(quick, tmp_path, MANIFEST, [one])[0, 0] == found[0, 0]).all()


@pytest.mark.usefixtures("pretended")
def test_next_groups__only_development_groups_without_a_label(
    quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = labels_of(2, monkeypatch)
    found = next_groups(quick, tmp_path, 3)
    parts = split(SUBJECTS)
    groups = [group for group, _, _ in found.choices]
    assert len(set(groups)) == 3 and not set(groups) & (has | {s.group_id for s in parts.test})
    assert all([s.group_id for s in subjects] == [group] * 2 for group, subjects, _ in found.choices)
    assert (found.labelled, found.groups) == (2, len({s.group_id for s in parts.development}))
    assert (found.partly_labelled, found.encoder, found.model) == (0, None, None)


@pytest.mark.usefixtures("pretended")
def test_next_groups__partly_labelled_group_counts_as_labelled(
    quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    development = split(SUBJECTS).development
    labels = Labels(recipe="brain_tumor", entries={development[0].subject_id: "l"})
    labels_of(0, monkeypatch)
    monkeypatch.setattr(module, "open_dataset", lambda recipe, home: (MANIFEST, labels))
    found = next_groups(quick, tmp_path, 100)
    assert (found.labelled, found.partly_labelled, len(found.choices)) == (1, 1, found.groups - 1)


@pytest.mark.usefixtures("pretended")
def test_next_groups__fewer_than_three_groups__subjects_take_their_place(
    quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels_of(0, monkeypatch, tuple(subject(i, group=i % 2) for i in range(20)))
    assert [len(subjects) for _, subjects, _ in next_groups(quick, tmp_path, 3).choices] == [1, 1, 1]


def test_next_groups__everything_labelled__says_so(
    quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels_of(99, monkeypatch)
    found = next_groups(quick, tmp_path, 3)
    assert found.choices == () and found.labelled == found.groups > 0


def test_next_groups__nothing_ingested(quick: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="selfsight ingest brain_tumor"):
        next_groups(quick, tmp_path, 3)
