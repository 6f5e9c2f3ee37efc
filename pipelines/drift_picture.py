"""Drift, drawn: every statistic against its threshold, the new subjects among the training subjects, and figures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipelines.drift_judge import EMBEDDING, Looks

TRAINED, NEW, ALARM = "#9aa0a6", "#0072b2", "#c8401f"
MOST_STATISTICS = 16
"""In the picture, the strongest; the JSON has all."""
FIGURES = 4
"""Of single figures whose values are shown."""
TICKS = (-10, -3, -1, 0, 1, 3, 10, 30, 100, 300)
SHORT = 6
"""Digits of a subject id in the picture."""


def draw(result: Mapping[str, Any], looks: Looks, new_ids: Sequence[str]) -> bytes:
    """PNG of a judged comparison.

    Args:
        result: see `drift_judge.judge`.
        looks: what was compared.
        new_ids: subject ids of the new rows.
    """
    figure = Figure(figsize=(10, 7), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1, height_ratios=[5, 2.6])
    above = grid[0].subgridspec(1, 2)
    bars, places = figure.add_subplot(above[0]), figure.add_subplot(above[1])
    test = result["tests"][0]
    _statistics(bars, test["statistics"])
    _embedding(places, looks, new_ids, result["strangest"])
    strongest = [name for name in _by_strength(test["statistics"]) if name != EMBEDDING][:FIGURES]
    below = grid[1].subgridspec(1, len(strongest))
    for column, name in enumerate(strongest):
        _values(figure.add_subplot(below[column]), name, looks)
    said = "ALARM" if result["alarm"] else "no alarm"
    groups = f"groups: {test['new']['groups']} new, {test['trained']['groups']} of training"
    figure.suptitle(f"{result['recipe']}: {said} ({groups}, p = {test['p']:.3g})", fontsize=12, fontweight="bold",
                    color=ALARM if result["alarm"] else "#222222")  # fmt: skip
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _by_strength(statistics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names, those first that come nearest to their threshold or exceed it most."""
    return [str(one["name"]) for one in sorted(statistics, key=lambda one: -_share(one))]


def _share(statistic: Mapping[str, Any]) -> float:
    """Where a statistic lies between what is usual (0) and its threshold (1)."""
    room = statistic["threshold"] - statistic["usual"]
    return float((statistic["value"] - statistic["usual"]) / room) if room > 0 else 0.0


def _statistics(axes: Axes, statistics: Sequence[Mapping[str, Any]]) -> None:
    ordered = sorted(statistics, key=_share)[-MOST_STATISTICS:]
    shares = [_share(one) for one in ordered]
    axes.barh(range(len(ordered)), shares, color=[ALARM if one["alarm"] else NEW for one in ordered], height=0.7)
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_yticks(range(len(ordered)), [str(one["name"]) for one in ordered], fontsize=8)
    axes.set_xscale("symlog", linthresh=2)
    low, high = min(-0.2, *shares), max(1.2, *shares) * 1.05
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("energy distance: 0 usual, 1 alarm", fontsize=8)
    _plain(axes)


def _embedding(axes: Axes, looks: Looks, new_ids: Sequence[str], strangest: Sequence[Mapping[str, Any]]) -> None:
    place = looks.names.index(EMBEDDING)
    mine, theirs = (np.pad(rows[place], ((0, 0), (0, 1)))[:, :2] for rows in (looks.trained, looks.new))
    axes.scatter(mine[:, 0], mine[:, 1], s=16, color=TRAINED, linewidths=0, label=f"training ({len(mine)})")
    axes.scatter(
        theirs[:, 0], theirs[:, 1], s=22, color=NEW, edgecolors="white", linewidths=0.5, label=f"new ({len(theirs)})"
    )
    at = {subject: row for row, subject in enumerate(new_ids)}
    for one in strangest:
        spot = theirs[at[one["subject_id"]]]
        axes.scatter(spot[0], spot[1], s=70, facecolors="none", edgecolors=ALARM, linewidths=1.1)
        axes.annotate(one["subject_id"][:SHORT], spot, xytext=(6, 4), textcoords="offset points", fontsize=7,
                      family="monospace")  # fmt: skip
    axes.set_xlabel("embedding, component 1", fontsize=8)
    axes.set_ylabel("component 2", fontsize=8)
    axes.legend(frameon=False, fontsize=8)
    _plain(axes)


def _values(axes: Axes, name: str, looks: Looks) -> None:
    place = looks.names.index(name)
    mine, theirs = (rows[place][:, 0] for rows in (looks.trained, looks.new))
    edges = np.linspace(min(mine.min(), theirs.min()), max(mine.max(), theirs.max()) + 1e-9, 21).tolist()
    for values, colour in ((mine, TRAINED), (theirs, NEW)):
        axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), color=colour, alpha=0.7)
    axes.set_title(name, fontsize=8)
    axes.set_xlabel("asinh of deviations", fontsize=7)
    axes.set_yticks([])
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
