"""Lesions in the report: the FROC as a curve and a table, and how the figures of detection are to be read."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from pipelines import report_figures as figures

AT = "sensitivity_at_"
KINDS = (("", "all lesions"), ("small_", "small lesions"))


def section(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Figure, table and notes of an evaluation that judged lesions; None for any other.

    Returns:
        "figure"; "rates" as text; "rows", each a name, a metric for each rate and their mean; "notes";
        "points", the names of the metrics that the table holds and no other table need repeat.
    """
    rates = [name.removeprefix(AT) for name in result["metrics"] if name.startswith(AT)]
    if not rates:
        return None
    trivial = result["trivial"]
    judged = (
        ("this model", result["metrics"], result["summary"], True),
        (trivial["name"], trivial["metrics"], trivial["summary"], False),
    )
    rows, lines = [], []
    for prefix, of in KINDS:
        for who, metrics, summary, mine in judged:
            if f"{prefix}froc" not in result["metrics"]:
                continue
            at = [metrics[f"{prefix}{AT}{rate}"] for rate in rates]
            rows.append({"name": f"{who}, {of}", "figures": [*at, metrics[f"{prefix}froc"]]})
            if curve := summary.get(f"{prefix}froc_curve"):
                lines.append((f"{who}, {of}", _drawn(curve, rates), mine, bool(prefix)))
    return {
        "figure": figures.lines(
            lines, ticks=[(float(np.log2(float(rate))), str(Fraction(float(rate)))) for rate in rates],
            x_label="false positives per scan", y_label="share of lesions found",
        ),
        "rates": [str(Fraction(float(rate))) for rate in rates],
        "rows": rows,
        "notes": result["summary"].get("notes", []),
        "points": [name for name in result["metrics"] if AT in name],
    }  # fmt: skip


def _drawn(curve: list[list[float]], rates: list[str]) -> list[tuple[float, float]]:
    """Places on a logarithmic axis between the first and the last rate, interpolated as the table's figures are."""
    x, y = zip(*curve, strict=True)
    places = np.linspace(np.log2(float(rates[0])), np.log2(float(rates[-1])), 121)
    return list(zip(places.tolist(), np.interp(2**places, x, y).tolist(), strict=True))
