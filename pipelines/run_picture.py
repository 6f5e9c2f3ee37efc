"""One picture of a whole run without any patient in it: both losses, and the model beside the trivial competitor."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MODEL, RIVAL, RESUMED = "#0072b2", "#9aa0a6", "#c8401f"


def draw_run(answer: Mapping[str, Any]) -> bytes:
    """PNG of a run.

    Args:
        answer: with `encoder_folder`, `model_folder`, `metrics`, `trivial` and `primary`.
    """
    figure = Figure(figsize=(9, 3), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    _losses(left, "pretraining", Path(answer["encoder_folder"]))
    _losses(middle, "fine-tuning", Path(answer["model_folder"]))
    _against(right, answer)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _losses(axes: Axes, title: str, folder: Path) -> None:
    outcome = json.loads((folder / "model.json").read_text())["outcome"]
    points = outcome.get("losses", [])
    axes.plot([step for step, _ in points], [loss for _, loss in points], color=MODEL, linewidth=1.2)
    for step in outcome.get("resumed_at", []):
        axes.axvline(step, color=RESUMED, linestyle="--", linewidth=1)
    axes.set(title=title, xlabel="step", ylabel="loss")


def _against(axes: Axes, answer: Mapping[str, Any]) -> None:
    """The primary metric of both with their intervals, where there are any."""
    name = answer["primary"]
    both = {"model": answer["metrics"][name], answer["trivial"]["name"]: answer["trivial"]["metrics"].get(name)}
    for place, (who, metric) in enumerate(both.items()):
        if metric is None or metric["mean"] is None:
            continue
        colour = MODEL if who == "model" else RIVAL
        axes.plot(metric["mean"], -place, "o", color=colour)
        if metric["low"] is not None:
            axes.plot([metric["low"], metric["high"]], [-place, -place], color=colour, linewidth=2)
    axes.set_yticks([0, -1], list(both))
    axes.set(title=name, ylim=(-1.6, 0.6))
