"""What a study of four arms and eight patients found, made without a training."""

from __future__ import annotations

import json
from typing import Any

from html_page import HOSTILE

MEANS = {("threshold", None): 0.44, ("scratch", 3): 0.5, ("scratch", 10): 0.6, ("anomalies", 0): 0.46,
         ("anomalies", 3): 0.583, ("anomalies", 10): 0.61, ("noise", 3): 0.5}  # fmt: skip
GAINS = (0.3, 0.2, 0.1, 0.05, 0.0, -0.05, -0.1, -0.2)
"""Of subject 0, 1, ... with 3 labels."""


def spread_of(mean: float, n: int = 8) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.06, "high": mean + 0.06, "n": n}


def a_study(**changes: Any) -> dict[str, Any]:
    kinds = {"noise": "control", "anomalies": "pretrained", "scratch": "scratch", "threshold": "trivial"}
    table = [
        {"arm": arm, "label_budget": budget, **spread_of(mean), "note": "",
         "against_scratch": spread_of(mean - MEANS["scratch", budget])
         if ("scratch", budget) in MEANS and arm != "scratch" else None,
         "against_trivial": spread_of(mean - 0.44) if arm != "threshold" else None}
        for (arm, budget), mean in MEANS.items()
    ]  # fmt: skip
    cases = [
        {"arm": arm, "label_budget": budget, "fold": f"{place % 3 + 1}/3", "subject_id": f"subject{place}",
         "group_id": f"group{place}", "score": 0.5 + (gain if (arm, budget) == ("anomalies", 3) else 0.0)}
        for arm, budget in MEANS for place, gain in enumerate(GAINS)
    ]  # fmt: skip
    cells = [
        {"arm": arm, "label_budget": budget, "fold": f"{fold}/3", "seconds": 60.0,
         "model": None if arm == "threshold" else f"{arm}-{budget}-{fold}"}
        for arm, budget in MEANS for fold in (1, 2, 3)
    ]  # fmt: skip
    return {
        "schema_version": 1, "recipe": "brain_tumor", "primary": "dice", "title": "Eight patients", "folds": 3,
        "subjects": 8, "groups": 8, "label_budgets": [0, 3, 10], "table": table, "cells": cells, "cases": cases,
        "arms": [{"name": name, "what": f"what {name} is", "kind": kind} for name, kind in kinds.items()],
        "main_arm": "anomalies", "verdict": "Pretraining is worth four labels.",
        "worth": [{"label_budget": 3, "text": "3 labels reach what 7 reach"}], "accounting": ["No label validates."],
        "warnings": ["Eight is few."], "seconds": 3725.0, "command": "selfsight study brain_tumor",
    } | changes  # fmt: skip


def row_of(study: dict[str, Any], arm: str, budget: int | None) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in study["table"] if r["arm"] == arm and r["label_budget"] == budget)
    return found


def a_hostile_study() -> dict[str, Any]:
    """The same with text in every place that a person or a file may fill, that a page must not take for its own."""
    study = a_study(title=HOSTILE, verdict=HOSTILE, warnings=[HOSTILE], accounting=[HOSTILE], command=HOSTILE,
                    worth=[{"label_budget": 3, "text": HOSTILE}])  # fmt: skip
    text = json.dumps(study).replace('"anomalies"', json.dumps("$a_b$ " + HOSTILE)).replace("what noise is", HOSTILE)
    study = json.loads(text)
    row_of(study, "scratch", 3)["note"] = HOSTILE
    return study
