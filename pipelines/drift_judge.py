"""Drift, judged: everything together and each site by itself, by every statistic, and which subjects are strangest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from domains.manifest import Subject
from pipelines.drift_distance import Comparison, compare, group_distances, scaled

FEWEST_GROUPS = 3
"""Training groups, so that a pseudo-new set can be compared with others."""
COMPONENTS = 10
"""Of the embeddings: directions in which all subjects spread most."""
SITES = ("site", "scanner", "camera", "view")
"""Facts that say where an image is from; the first of these that is known of a subject counts."""
STRANGEST = 5
ALL = "all"
EMBEDDING = "embedding"


@dataclass(frozen=True)
class Looks:
    """Training and new subjects as rows of each statistic."""

    names: tuple[str, ...]
    trained: tuple[np.ndarray, ...]
    """(N, F) for each name; F is 1 but for the embedding."""
    new: tuple[np.ndarray, ...]


def looks_of(
    names: Sequence[str], figures: tuple[np.ndarray, np.ndarray], embeddings: tuple[np.ndarray, np.ndarray]
) -> Looks:
    """Each figure by itself, in deviations of the training data, and the embedding as a whole.

    Args:
        names: F figures.
        figures: (N, F) of the training subjects, (M, F) of the new ones.
        embeddings: (N, E) and (M, E).
    """
    mine, theirs = scaled(*figures)
    places = leading(*embeddings)
    columns = [[side[:, [place]] for place in range(len(names))] for side in (mine, theirs)]
    return Looks((*names, EMBEDDING), (*columns[0], places[0]), (*columns[1], places[1]))


def leading(trained: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both (., E) -> (., `COMPONENTS`), the principal components of all rows together, each of deviation 1.

    Together, since components of the training rows alone fit these better than any new row, and the new ones would be
    told by that.
    """
    rows = np.vstack([trained, new]).astype(np.float64)
    deviation = rows.std(0)
    kept = deviation > 1e-6 * np.abs(rows).max(initial=0.0)
    rows = (rows[:, kept] - rows[:, kept].mean(0)) / deviation[kept]
    left, lengths, _ = np.linalg.svd(rows, full_matrices=False)
    count = min(COMPONENTS, int((lengths > 1e-6 * lengths.max(initial=0.0)).sum()))
    places = left[:, :count] * np.sqrt(len(rows))
    return places[: len(trained)], places[len(trained) :]


def judge(looks: Looks, trained: Sequence[Subject], new: Sequence[Subject], level: float) -> dict[str, Any]:
    """All new subjects against all training subjects, and each site that the facts tell apart against its like.

    The false alarm rate is shared out among these tests. A site that the training data does not know, or of fewer than
    `FEWEST_GROUPS` groups there, is compared with all of it.

    Returns:
        JSON: alarm, false_alarm_rate (of all tests together), tests (the one of all subjects first; each with site,
        compared_with, groups and subjects of both sides, alarm, p, false_alarm_rate and statistics), strangest.
    """
    here, there = ([site_of(s) for s in subjects] for subjects in (trained, new))
    sites = sorted(set(there) - {""})
    apart = sites if len(set(here) | set(there)) > 1 else []
    tests: list[dict[str, Any]] = []
    for site in [ALL, *apart]:
        mine = [i for i, own in enumerate(here) if site in (ALL, own)]
        theirs = [i for i, own in enumerate(there) if site in (ALL, own)]
        like = len({trained[i].group_id for i in mine}) >= FEWEST_GROUPS
        mine = mine if like else list(range(len(trained)))
        groups = [trained[i].group_id for i in mine], [new[i].group_id for i in theirs]
        found = compare_looks(looks, mine, theirs, *groups, level / (1 + len(apart)))
        tests.append({
            "site": site, "compared_with": site if like else ALL, "alarm": found.alarm, "p": found.p,
            "false_alarm_rate": found.false_alarm_rate, "drawn": found.drawn,
            "trained": {"groups": len(set(groups[0])), "subjects": len(mine)},
            "new": {"groups": len(set(groups[1])), "subjects": len(theirs)},
            "statistics": [asdict(one) | {"alarm": one.alarm} for one in found.statistics],
        })  # fmt: skip
    rate = min(1.0, sum(test["false_alarm_rate"] for test in tests))
    return {"alarm": any(test["alarm"] for test in tests), "false_alarm_rate": rate, "tests": tests,
            "strangest": strangest(looks, new)}  # fmt: skip


def strangest(looks: Looks, new: Sequence[Subject]) -> list[dict[str, Any]]:
    """The new subjects that lie farthest from the training subjects: id, group, by which statistic, and how far.

    A subject's mean distance to all training subjects, in robust deviations (1.4826 times the median absolute
    deviation) above the training subjects' own median; of all statistics the one where that is most.
    """
    above = []
    for mine, theirs in zip(looks.trained, looks.new, strict=True):
        own = cdist(mine, mine).sum(1) / max(1, len(mine) - 1)
        usual = float(np.median(own))
        spread = 1.4826 * float(np.median(np.abs(own - usual)))
        above.append((cdist(theirs, mine).mean(1) - usual) / (spread if spread > 0 else 1.0))
    score = np.max(above, axis=0)
    by = np.argmax(above, axis=0)
    order = np.argsort(-score, kind="stable")[:STRANGEST]
    return [
        {"subject_id": new[i].subject_id, "group_id": new[i].group_id, "by": looks.names[by[i]],
         "deviations": round(float(score[i]), 2)} for i in order
    ]  # fmt: skip


def site_of(subject: Subject) -> str:
    """What the facts say of where a subject is from, e.g. its site, or its view; "" where they say nothing."""
    return next((str(found) for name in SITES if (found := subject.facts.get(name)) is not None), "")


def spread_evenly(subjects: Sequence[Subject], most: int) -> list[Subject]:
    """At most so many subjects: one of each group, then a second one, and so on, in an order that is the same again."""
    ordered = sorted(subjects, key=lambda s: (s.split_bucket, s.group_id, s.content_digest))
    turns: dict[str, int] = {}
    turn = []
    for subject in ordered:
        turns[subject.group_id] = turns.get(subject.group_id, 0) + 1
        turn.append(turns[subject.group_id])
    chosen = sorted(range(len(ordered)), key=lambda place: (turn[place], place))[:most]
    return [ordered[place] for place in sorted(chosen)]


def compare_looks(
    looks: Looks, mine: list[int], theirs: list[int], groups: Sequence[str], new_groups: Sequence[str], level: float
) -> Comparison:
    """These rows of both sides; a patient who is on both sides is two groups, one on each."""
    order = dict.fromkeys([*((group, False) for group in groups), *((group, True) for group in new_groups)])
    names = {name: place for place, name in enumerate(order)}
    index = np.array([names[g, False] for g in groups] + [names[g, True] for g in new_groups])
    fresh = np.array([is_new for _, is_new in names])
    distances = {}
    for name, trained, new in zip(looks.names, looks.trained, looks.new, strict=True):
        distances[name] = group_distances(np.vstack([trained[mine], new[theirs]]), index)
    figures = {name: matrix for name, matrix in distances.items() if name != EMBEDDING}
    families = [family for family in (figures, {EMBEDDING: distances[EMBEDDING]}) if family]
    return compare(families, fresh, level)
