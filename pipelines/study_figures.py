"""Figures of a study as PNG: the label-efficiency curve of every arm, and each subject under two arms."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from pipelines.archive_map import COLOURS
from pipelines.report_data import words
from pipelines.study_table import columns, measured, named

SCRATCH_INK, TRIVIAL_INK, TEXT_INK = "#222222", "#666666", "#333333"
MAIN_INK, BETTER_INK, WORSE_INK = COLOURS[0], COLOURS[0], COLOURS[1]
OTHER_INKS = COLOURS[1:6]
MARKS = "s^Dv<>P"
BESIDE = 0.045
"""Shift between the arms of one budget, in units of log(1 + budget): intervals stand side by side."""
LABEL_GAP = 0.052
"""Least distance between two names beside the curve, as a share of its height."""
MOST_PANELS = 4
LEVEL: dict[str, Any] = {"color": TRIVIAL_INK, "linewidth": 1.3, "linestyle": (0, (5, 3)), "zorder": 2}
"""How a competitor is drawn that needs no training."""
DPI = 200


@dataclass(frozen=True)
class End:
    """Where an arm's line ends, and how it is drawn."""

    x: float
    y: float
    name: str
    style: Mapping[str, Any]
    main: bool = False


def curve(study: Mapping[str, Any]) -> bytes:
    """Mean score over label budget with 95 % intervals: a line an arm, a dashed horizontal a trivial competitor.

    The axis of budgets is log(1 + budget), which shows 0. An arm's name stands where its line ends. The main arm is
    the thick one with a band, scratch is black, controls are dotted. What was judged on disturbed images is left to the
    table: a point at one budget is no curve.
    """
    figure, (axes,) = _axes(7.6, 4.6, 1)
    budgets = columns(study)
    places = np.log1p(budgets)
    right = max(float(places[-1]) + 0.18, float(places[0]) + 1.0)
    arms = [arm for arm in study["arms"] if arm["kind"] != "robustness"]
    rows = {arm["name"]: _rows(study, arm["name"]) for arm in arms}
    others = [a["name"] for a in arms if a["kind"] not in ("trivial", "scratch") and not _main(study, a)]
    moving = [arm for arm in arms if any(row["label_budget"] is not None for row in rows[arm["name"]])]
    ends: list[End] = []
    for arm in arms:
        place = moving.index(arm) - (len(moving) - 1) / 2 if arm in moving else 0.0
        style = _style(study, arm, others)
        for row in rows[arm["name"]]:
            if row["label_budget"] is None:
                _level(axes, row, right)
                ends.append(End(right, row["mean"], named(arm), LEVEL))
        points = [row for row in rows[arm["name"]] if row["label_budget"] is not None]
        if points:
            x, y = _line(axes, points, place * BESIDE, style, main=_main(study, arm))
            ends.append(End(x, y, named(arm), style, _main(study, arm)))
    axes.set_xticks(places, [f"{budget:g}" for budget in budgets])
    axes.set_xlim(float(places[0]) - 0.18, right)
    axes.set_xlabel(f"labelled {study.get('label_unit', 'groups')} used for training")
    axes.set_ylabel(f"{measured(study)}, {study['subjects']} test subjects (bars: 95 %)")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    _name(axes, ends, right)
    return _png(figure)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights moved apart to at least `gap`, in their order and as little as possible (least squares)."""
    if not len(heights):
        return []
    order = np.argsort(np.asarray(heights), kind="stable")
    steps = gap * np.arange(len(order))
    moved = np.empty(len(order))
    moved[order] = isotonic_regression(np.asarray(heights, dtype=float)[order] - steps).x + steps
    return [float(height) for height in moved]


def scatter(
    pairs: Mapping[int, Sequence[tuple[float, float]]], *, primary: str, scratch: str, pretrained: str
) -> bytes:
    """A dot a subject, scratch across and pretrained up, one panel a label budget; above the diagonal it helped.

    Args:
        pairs: label budget -> (scratch, pretrained) scores; of more than `MOST_PANELS` budgets the smallest are drawn.
        primary: the metric's key.
        scratch: that arm's name.
        pretrained: that arm's name.
    """
    shown = sorted(pairs)[:MOST_PANELS]
    figure, panels = _axes(3.1 * len(shown) + 0.4, 3.6, len(shown))
    every = [score for budget in shown for pair in pairs[budget] for score in pair]
    low, high = min([0.0, *every]), max([1.0, *every])
    ends = (low - 0.03 * (high - low), high + 0.03 * (high - low))
    for panel, budget in zip(panels, shown, strict=True):
        across, up = np.array(pairs[budget], dtype=float).reshape(-1, 2).T
        panel.plot(ends, ends, color=TRIVIAL_INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for chosen, ink, mark in ((up > across, BETTER_INK, "o"), (up < across, WORSE_INK, "v"),
                                  (up == across, TRIVIAL_INK, "s")):  # fmt: skip
            panel.scatter(across[chosen], up[chosen], s=22, color=ink, marker=mark, alpha=0.75, linewidths=0)
        better, worse = int((up > across).sum()), int((up < across).sum())
        inside = panel.transAxes
        panel.text(0.04, 0.95, f"{better} better", color=BETTER_INK, va="top", fontsize=8.5, transform=inside)
        panel.text(0.96, 0.05, f"{worse} worse", color=WORSE_INK, ha="right", fontsize=8.5, transform=inside)
        panel.set(xlim=ends, ylim=ends, aspect="equal", title=f"{budget:g} labels")
        panel.title.set_fontsize(10)
        panel.set_xlabel(f"{words(primary)}, {scratch}", parse_math=False)
    panels[0].set_ylabel(f"{words(primary)}, {pretrained}", parse_math=False)
    return _png(figure)


def _rows(study: Mapping[str, Any], arm: str) -> list[Mapping[str, Any]]:
    """The arm's rows with a defined mean, by budget."""
    rows = [row for row in study["table"] if row["arm"] == arm and _defined(row["mean"])]
    return sorted(rows, key=lambda row: -1 if row["label_budget"] is None else row["label_budget"])


def _main(study: Mapping[str, Any], arm: Mapping[str, Any]) -> bool:
    return bool(arm["name"] == study["main_arm"])


def _style(study: Mapping[str, Any], arm: Mapping[str, Any], others: Sequence[str]) -> dict[str, Any]:
    """Colour, mark and dashes of an arm's line."""
    if _main(study, arm):
        return {"color": MAIN_INK, "marker": "o", "linewidth": 2.6, "markersize": 6.5, "zorder": 5}
    if arm["kind"] in ("scratch", "trivial"):
        ink = SCRATCH_INK if arm["kind"] == "scratch" else TRIVIAL_INK
        return {"color": ink, "marker": "o", "linewidth": 1.8, "markersize": 5, "zorder": 4}
    place = others.index(arm["name"])
    dashes = ":" if arm["kind"] == "control" else "-"
    return {"color": OTHER_INKS[place % len(OTHER_INKS)], "marker": MARKS[place % len(MARKS)], "linestyle": dashes,
            "linewidth": 1.4, "markersize": 5, "zorder": 3}  # fmt: skip


def _level(axes: Axes, row: Mapping[str, Any], right: float) -> None:
    """A competitor without training: the same for all budgets."""
    axes.axhline(row["mean"], **LEVEL)
    if _defined(row["low"]) and _defined(row["high"]):
        axes.axhspan(row["low"], row["high"], color=TRIVIAL_INK, alpha=0.07, linewidth=0, zorder=1)


def _line(
    axes: Axes, points: Sequence[Mapping[str, Any]], shift: float, style: dict[str, Any], *, main: bool
) -> tuple[float, float]:
    """An arm's line with its intervals; where it ends."""
    x = np.log1p([row["label_budget"] for row in points]) + shift
    y = np.array([row["mean"] for row in points], dtype=float)
    bounds = [(row["low"], row["high"]) if _defined(row["low"]) and _defined(row["high"]) else (row["mean"],) * 2
              for row in points]  # fmt: skip
    low, high = np.array(bounds, dtype=float).T
    if main:
        axes.fill_between(x, low, high, color=style["color"], alpha=0.13, linewidth=0, zorder=1)
    axes.vlines(x, low, high, color=style["color"], linewidth=1.1, alpha=0.85, zorder=style["zorder"])
    axes.plot(x, y, markeredgecolor="white", markeredgewidth=0.7, **style)
    return float(x[-1]), float(y[-1])


def _name(axes: Axes, ends: Sequence[End], right: float) -> None:
    """Names with their marks at the right edge, in the order of the lines' ends, joined to them by a hair."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = spread([end.y for end in ends], LABEL_GAP * (high - low))
    beyond, wide = right + 0.2, 0.16
    for end, height in zip(ends, heights, strict=True):
        ink = end.style["color"]
        axes.plot([end.x, right, beyond], [end.y, end.y, height], color=ink, linewidth=0.6, clip_on=False, zorder=2)
        axes.plot([beyond, beyond + wide / 2, beyond + wide], [height] * 3, markevery=[1], markeredgecolor="white",
                  markeredgewidth=0.7, clip_on=False, **end.style)  # fmt: skip
        axes.text(beyond + wide + 0.05, height, end.name, color=TEXT_INK, va="center", fontsize=9, parse_math=False,
                  fontweight="bold" if end.main else "normal")  # fmt: skip


def _axes(width: float, height: float, count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: its list of figures is shared between threads
    drawn: list[Axes] = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in drawn:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#999999")
        axes.tick_params(colors=TEXT_INK, labelsize=9)
        axes.xaxis.label.set(color=TEXT_INK, fontsize=9.5)
        axes.yaxis.label.set(color=TEXT_INK, fontsize=9.5)
    return figure, drawn


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()


def _defined(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
