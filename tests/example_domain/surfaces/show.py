"""Pictures of pieces as PNG: a thumbnail, a prediction over its photograph, an objective's panels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from domains.head import Evidence, Prediction

GREY_RANGE = (-4.0, 4.0)
"""Robust deviations that are shown from black to white."""


def picture(entry: Path) -> bytes:
    """The photograph as the network gets it."""
    low, high = GREY_RANGE
    image = np.load(entry / "image.npy")[0].astype(np.float32)
    grey = np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()


def overlay(entry: Path, prediction: Prediction, label: Path | None, evidence: Evidence | None = None) -> bytes:
    """The photograph; prediction as a cyan line, reference as a yellow one."""
    figure = Figure(figsize=(5, 2.5), layout="constrained")
    plain, marked = figure.subplots(1, 2)
    image = np.load(entry / "image.npy")[0].astype(np.float32)
    for axes in (plain, marked):
        axes.imshow(image, cmap="gray", vmin=GREY_RANGE[0], vmax=GREY_RANGE[1])
        axes.set_axis_off()
    masks = [(prediction.argmax(0) > 0, "cyan")]
    if label is not None:
        masks.append((np.load(label / "label.npy") > 0, "yellow"))
    for mask, colour in masks:
        if mask.any():
            marked.contour(mask, levels=[0.5], colors=colour, linewidths=1)
    return _png(figure)


def panels(named: dict[str, Any]) -> bytes:
    """name -> (B, 1, H, W): a row per crop, a titled column per panel."""
    rows = len(next(iter(named.values())))
    figure = Figure(figsize=(1.6 * len(named), 1.6 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, len(named), squeeze=False)
    for column, (name, panel) in enumerate(named.items()):
        grid[0][column].set_title(name, fontsize=8)
        for row in range(rows):
            grid[row][column].imshow(np.asarray(panel[row, 0]), cmap="gray")
            grid[row][column].set_axis_off()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()
