"""What a report shows of a set of cases as a whole: a reliability diagram and its subgroups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines import report_figures as figures
from pipelines.report_data import words


def of_the_set(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """As far as the head's `summarise` has "reliability" and "by" (subgroups); None where it has neither.

    Returns:
        "reliability", a figure; "columns", the names of the figures of a subgroup, and "subgroups", rows of (name,
        the model's, the competitor's), each with a value a column.
    """
    mine, theirs = result["summary"], result["trivial"].get("summary") or {}
    if not any(mine.get(key) for key in ("reliability", "by")):
        return None
    by = mine.get("by") or {}
    columns = list(next(iter(by.values()), {}))
    others = theirs.get("by") or {}
    rows = [
        (words(name), [group.get(c) for c in columns], [others.get(name, {}).get(c) for c in columns])
        for name, group in by.items()
    ]
    return {"reliability": figures.reliability(mine.get("reliability") or []), "columns": columns, "subgroups": rows}
