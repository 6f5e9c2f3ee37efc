"""Map of the archive: planted duplicates and outliers are found, plain clouds have (almost) none, places are stable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domains.manifest import Subject
from pipelines.archive_map import archive_map, draw


def some_subjects(count: int, **facts: Any) -> list[Subject]:
    """Subjects whose facts are given as one column each."""
    return [
        Subject(subject_id=f"{i:016x}", group_id=f"g{i}", split_bucket=i, entry=f"e{i}", content_digest=str(i),
                facts={name: column[i] for name, column in facts.items()})
        for i in range(count)
    ]  # fmt: skip


def a_cloud(count: int, seed: int = 0, width: int = 64, dimensions: int = 12) -> np.ndarray:
    """(count, width) float32: a Gaussian of a few dimensions, as embeddings are, in many correlated columns."""
    draw_from = np.random.default_rng(seed)
    return (draw_from.normal(size=(count, dimensions)) @ draw_from.normal(size=(dimensions, width))).astype(np.float32)


def pairs_of(found: dict[str, Any]) -> list[set[str]]:
    return [set(pair["subjects"]) for pair in found["near_duplicates"]]


def test_archive_map__planted_duplicate_is_the_only_one():
    rows, subjects = a_cloud(60), some_subjects(60)
    rows[7] = rows[41] + 0.02 * a_cloud(60, seed=1)[0]
    found = archive_map(rows, subjects)
    assert pairs_of(found) == [{subjects[7].subject_id, subjects[41].subject_id}]
    assert found["subjects"][7]["nearest"] == subjects[41].subject_id


def test_archive_map__half_of_the_archive_twice_is_found():
    rows = a_cloud(60)
    rows[:20] = rows[20:40] + 0.02 * a_cloud(20, seed=1)
    assert len(archive_map(rows, some_subjects(60))["near_duplicates"]) == 20


def test_archive_map__plain_clouds_have_no_duplicates_and_few_outliers():
    found = [archive_map_quickly(a_cloud(76, seed)) for seed in range(20)]
    assert sum(bool(pairs) for pairs, _ in found) <= 2, "the rule promises 1 in 20"
    assert np.mean([outliers for _, outliers in found]) < 0.03 * 76


def test_archive_map__a_denser_site_is_not_a_duplicate():
    rows = a_cloud(60)
    rows[:20] = 0.2 * rows[:20] + 5 * a_cloud(1, seed=1)
    assert not archive_map(rows, some_subjects(60))["near_duplicates"]


def test_archive_map__planted_outlier_leads():
    rows, subjects = a_cloud(40), some_subjects(40)
    rows[5] *= 6
    found = archive_map(rows, subjects)
    assert found["outliers"][0] == subjects[5].subject_id
    assert found["subjects"][5]["outlier_score"] > 3


def test_archive_map__colours_by_site_else_by_what_neighbours_share():
    rows = a_cloud(30)
    sites = archive_map(rows, some_subjects(30, site=["A", "B", "B"] * 10))
    assert (sites["colour"], sites["group_names"]) == ("Site", ["B", "A"])
    shared, noise = [float(v) for v in rows[:, 0]], [float(v) for v in np.random.default_rng(5).normal(size=30)]
    found = archive_map(rows, some_subjects(30, noise=noise, along=shared))
    assert found["colour"] == "Along" and [fact["fact"] for fact in found["follows"]] == ["Along"]
    assert sorted(s["group"] for s in found["subjects"]) == [0] * 10 + [1] * 10 + [2] * 10
    assert archive_map(rows, some_subjects(30))["group_names"] == ["all subjects"]


@pytest.mark.parametrize("count, method", [(4, "PCA"), (9, "PCA"), (12, "t-SNE")])
def test_archive_map__small_archives_and_the_same_map_again(count, method):
    rows, subjects = a_cloud(count), some_subjects(count)
    found = archive_map(rows, subjects)
    assert found["method"] == method and json.loads(json.dumps(found)) == found == archive_map(rows, subjects)
    assert len({(s["x"], s["y"]) for s in found["subjects"]}) == count


def test_archive_map__rows_that_say_nothing():
    found = archive_map(np.ones((12, 8), np.float32), some_subjects(12))
    assert not found["near_duplicates"] and not found["outliers"]
    with pytest.raises(ValueError, match="at least 4"):
        archive_map(a_cloud(3), some_subjects(3))


def test_draw__a_picture_that_is_the_same_again(tmp_path: Path):
    rows = a_cloud(30)
    rows[1], rows[9] = rows[0] * 1.0001, rows[9] * 6
    found = archive_map(rows, some_subjects(30, site=[f"site $_{i % 11}$ ^" for i in range(30)]))
    assert found["near_duplicates"] and found["outliers"] and found["group_names"][-1] == "others"
    assert draw(found).startswith(b"\x89PNG") and draw(found) == draw(found)


def archive_map_quickly(rows: np.ndarray) -> tuple[list[Any], int]:
    """Near-duplicates and the number of outliers, without a layout."""
    from pipelines import archive_map as module

    features = module.standardised(rows)
    lengths, _ = module.nearest(features, "euclidean")
    return module.near_pairs(*module.nearest(features, "cosine")), int(
        (module.outlier_scores(lengths.mean(1)) > module.OUTLYING).sum()
    )
