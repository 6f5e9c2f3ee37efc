"""Table of a study: every arm at every label budget, with its interval and its paired difference to scratch."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.arms import under
from pipelines.label_meter import SCRATCH
from pipelines.report_data import words

KINDS = {
    "trivial": "learned nothing",
    "scratch": "trained on the labels alone",
    "pretrained": "pretrained first",
    "strategy": "another way to spend or stretch labels",
    "control": "negative control: must show no gain",
    "robustness": "the same models, judged on disturbed images",
}
"""Every kind of arm, in the order of the table, and what it is."""
PARTS = ("mean", "low", "high", "n")


@dataclass(frozen=True)
class Cell:
    """One arm at one label budget, in words."""

    figure: str
    """E.g. "0.671"; a dash where it was not tried."""
    interval: str = ""
    """E.g. "0.61-0.73"."""
    difference: str = ""
    """E.g. "+0.083 (0.021 to 0.146)", paired, case by case; empty where there is nothing to compare with."""
    to: str = ""
    """What the difference is to, where that is not scratch."""
    sure: bool = False
    """Whether the difference's interval leaves out zero."""
    note: str = ""

    @property
    def text(self) -> str:
        return f"{self.figure} ({self.interval})" if self.interval else self.figure


@dataclass(frozen=True)
class Line:
    """One arm of the table."""

    arm: Mapping[str, Any]
    cells: tuple[Cell, ...]
    """One a budget."""
    level: bool
    """The same at every budget, since nothing is trained."""


def columns(study: Mapping[str, Any]) -> list[int]:
    """The label budgets; 0 alone where nothing was trained."""
    return sorted(study["label_budgets"]) or [0]


def lines(study: Mapping[str, Any]) -> list[Line]:
    """The table: an arm a line, a budget a cell; what has learned nothing comes first, then scratch."""
    rows = {(row["arm"], row["label_budget"]): row for row in study["table"]}
    kinds = list(KINDS)
    found = []
    for arm in sorted(study["arms"], key=lambda arm: (kinds.index(arm["kind"]), arm["name"] != study["main_arm"])):
        level = rows.get((arm["name"], None))
        at = [rows.get((arm["name"], budget), level) for budget in columns(study)]
        flat = level is not None and all(row is level for row in at)
        found.append(Line(arm, tuple(_cell(study, arm, row) for row in at), flat))
    return found


def as_csv(study: Mapping[str, Any]) -> str:
    """The table with full precision: a row an arm and budget; an undefined figure is empty."""
    parts = [f"{name}_{part}" for name in ("against_scratch", "against_trivial") for part in PARTS]
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["arm", "kind", "label_budget", *PARTS, *parts, "note"])
    arms = {arm["name"]: arm for arm in study["arms"]}
    for row in study["table"]:
        differences = [(row[name] or {}).get(part) for name in ("against_scratch", "against_trivial") for part in PARTS]
        table.writerow([row["arm"], arms[row["arm"]]["kind"], row["label_budget"], *(row[part] for part in PARTS),
                        *differences, row["note"]])  # fmt: skip
    return file.getvalue()


def as_markdown(study: Mapping[str, Any]) -> str:
    """The table as people quote it: "0.671 (0.61-0.73); **+0.083** (0.021 to 0.146)" and a legend below."""
    head = ["arm", *(f"{budget} labels" for budget in columns(study))]
    text = [_row(head), _row(["---", *(["---:"] * (len(head) - 1))])]
    notes: list[str] = []
    for line in lines(study):
        name = _plain(named(line.arm))
        cells = [f"**{name}**" if line.arm["name"] == study["main_arm"] else name]
        for cell in line.cells:
            if cell.note and cell.note not in notes:
                notes.append(cell.note)
            mark = f" [{notes.index(cell.note) + 1}]" if cell.note else ""
            cells.append(cell.text + mark + _beside(cell))
        text.append(_row(cells))
    text += ["", _plain(legend(study))]
    more, others = other_figures(study)
    if others:
        text += ["", _row(more), _row(["---"] * len(more)), *(_row([_plain(cell) for cell in row]) for row in others)]
    text += [f"\n[{place}] {_plain(note)}" for place, note in enumerate(notes, 1)]
    return "\n".join(text) + "\n"


def other_figures(study: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """What else is known of sets of cases: a head and rows (arm, labels, figure with interval, ...); no row if none."""
    names = list(dict.fromkeys(name for row in study["table"] for name in row.get("others", {})))
    rows = []
    for row in study["table"] if names else ():
        budget = "any" if row["label_budget"] is None else str(row["label_budget"])
        cells = [row["others"].get(name, {"mean": None}) for name in names]
        rows.append([row["arm"], budget, *(_figure(cell) for cell in cells)])
    return ["arm", "labels", *map(words, names)], rows


def _figure(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "undefined"
    around = "no interval" if found["low"] is None else f"{found['low']:.2f}-{found['high']:.2f}"
    return f"{found['mean']:.3f} ({around})"


def named(arm: Mapping[str, Any]) -> str:
    """An arm's name, with what keeps it from being a competitor like the others."""
    kinds = {"trivial": " (no training)", "control": " (control)"}
    return str(arm["name"]) + kinds.get(arm["kind"], "")


def trivial(study: Mapping[str, Any]) -> str:
    """The competitor that differences without a scratch are to."""
    names = [str(arm["name"]) for arm in study["arms"] if arm["kind"] == "trivial"]
    return names[0] if len(names) == 1 else "the trivial competitor"


def legend(study: Mapping[str, Any]) -> str:
    """How to read the table, in sentences."""
    widths = [(row["high"] - row["low"]) / 2 for row in study["table"] if None not in (row["low"], row["high"])]
    known = f" (about ± {statistics.median(widths):.2f})" if widths else ""
    tested = Counter((case["arm"], case["label_budget"], case["subject_id"]) for case in study["cases"])
    folds = f" in {study['folds']} folds" if study["folds"] > 1 else ""
    once = f"each tested once{folds}" if max(tested.values(), default=1) == 1 else f"each its mean over models{folds}"
    disturbed = (
        " Under a disturbance the same models are judged on disturbed images, beside scratch on these."
        if any(arm["kind"] == "robustness" for arm in study["arms"]) else ""
    )  # fmt: skip
    size = f"{study['subjects']} test subjects of {study['groups']} groups (such as patients), {once}"
    unit = study.get("label_unit", "groups")
    return (
        f"Each figure: {measured(study)} over {size}, with its 95 % interval{known}. Columns: labelled {unit} used for "
        "training. Then the difference to scratch on the same subjects with the same labels (where there is no "
        f"scratch, to {trivial(study)}), and its 95 % interval; bold where that leaves out zero.{disturbed}"
    )


def measured(study: Mapping[str, Any]) -> str:
    """What a figure of the table is: a mean over subjects, or a figure of the set of each fold."""
    name = words(study["primary"])
    if not study.get("pooled"):
        return f"mean {name}"
    return f"{name} (mean of folds)" if study["folds"] > 1 else name


def _cell(study: Mapping[str, Any], arm: Mapping[str, Any], row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell("–")
    if row["mean"] is None:
        return Cell("undefined", note=row["note"])
    low, high = row["low"], row["high"]
    interval = "no interval" if low is None or high is None else f"{low:.2f}-{high:.2f}"
    if row["n"] != study["subjects"]:
        interval += f", n = {row['n']}"
    compared = row["against_scratch"] or row["against_trivial"]
    if arm["kind"] in ("trivial", "scratch") or not compared or compared["mean"] is None:
        return Cell(f"{row['mean']:.3f}", interval, note=row["note"])
    to = trivial(study)
    if row["against_scratch"]:
        to = under(SCRATCH, arm["disturbed"]) if arm.get("disturbed") else ""
    ends = [compared["low"], compared["high"]]
    sure = None not in ends and not ends[0] <= 0 <= ends[1]
    around = f" ({ends[0]:.3f} to {ends[1]:.3f})" if None not in ends else " (no interval)"
    return Cell(f"{row['mean']:.3f}", interval, f"{compared['mean']:+.3f}{around}", to, sure, row["note"])


def _beside(cell: Cell) -> str:
    if not cell.difference:
        return ""
    gain, _, around = cell.difference.partition(" ")
    return f"; {f'**{gain}**' if cell.sure else gain} {around}" + (f" to {_plain(cell.to)}" if cell.to else "")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Text that cannot end a cell or start a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
