"""Pictures of volumes: overlays on three planes, thumbnails, and what an objective saw."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domains.medical import metrics
from domains.medical.entries import open_entry

if TYPE_CHECKING:  # a second that most commands do not need
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

AXES = "SAR"
"""Anatomical direction in which D, H and W grow (axial stacks and isotropic volumes)."""
PLANES = {"S": "axial", "A": "coronal", "R": "sagittal"}
OPPOSITE = {"S": "I", "A": "P", "R": "L"}
PREDICTED, REFERENCE = "#ff8c00", "#00e5ff"
CLASS_COLOURS = ("#ff8c00", "#00e5ff", "#ff4fd8", "#7dff4f", "#ffe94f", "#a58cff")
"""Of several classes in turn; the reference then has its class's colour too, and is dashed."""
DPI = 100
MOST_ROWS = 4
"""Samples in a figure of panels."""


def overlay(
    image: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray | None,
    spacing_mm: Sequence[float],
    *,
    spacing_known: bool = True,
    axes: str = AXES,
    names: Sequence[str] = ("lesion",),
) -> bytes:
    """PNG with contours on three planes through the lesion: where the reference, else the prediction, is largest.

    Args:
        image: (D, H, W) float.
        prediction: (D, H, W) integer classes, drawn in orange; several in a colour each.
        reference: (D, H, W) integer classes, drawn in blue; several in their colours, dashed. None if there is none.
        spacing_mm: along D, H, W; sets the aspect also where it is nominal.
        spacing_known: False: volumes are given in voxels.
        axes: letters of S, A, R in the order of D, H, W.
        names: of the classes from 1 on.
    """
    shown = reference if reference is not None and reference.any() else prediction
    place = _largest_section(shown > 0)
    figure, panels = _three_planes(image, place, spacing_mm, axes)
    for axis, panel in enumerate(panels):
        for mask, is_reference in ((reference, True), (prediction, False)):
            if mask is not None:
                for k in range(len(names), 0, -1):  # the rim of one class runs along the next: the first lies on top
                    line = _line(k, len(names), is_reference)
                    _contours(panel, _section(mask, axis, place, axes) == k, **line)
    lines = _legend(names, reference is not None)
    figure.legend(handles=lines, loc="lower center", ncols=len(lines), frameon=False, labelcolor="white", fontsize=8)
    title = _title(prediction, reference, spacing_mm if spacing_known else None, names)
    figure.suptitle(title, color="white", fontsize=10 if len(names) == 1 else 8.5)
    return as_png(figure)


def _line(number: int, classes: int, is_reference: bool) -> dict[str, Any]:
    """Colour and style of a class's contour."""
    if classes == 1:
        return {"color": REFERENCE if is_reference else PREDICTED, "linestyle": "solid"}
    colour = CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]
    return {"color": colour, "linestyle": "dashed" if is_reference else "solid"}


def _legend(names: Sequence[str], with_reference: bool) -> list[Line2D]:
    from matplotlib.lines import Line2D

    who = ["prediction", "reference"][: 1 + with_reference]
    if len(names) == 1:
        return [Line2D([], [], label=one, **_line(1, 1, one == "reference")) for one in who]
    lines = [Line2D([], [], label=name, **_line(k, len(names), False)) for k, name in enumerate(names, 1)]
    return lines + [Line2D([], [], label=one, **_line(1, 2, one == "reference") | {"color": "white"}) for one in who]


def thumbnail(folder: Path) -> bytes:
    """Small PNG of a subject entry: three planes through the middle of the head."""
    entry = open_entry(folder)
    inside = entry.read_foreground()
    where = np.argwhere(inside) if inside.any() else np.argwhere(~inside)
    place = tuple(int(c) for c in (where.min(0) + where.max(0)) // 2)
    figure, _ = _three_planes(entry.read()[0], place, entry.spacing_mm, entry.grid.axes, width=4.2)
    return as_png(figure)


def panels(named: Mapping[str, Any]) -> bytes:
    """PNG of an objective's panels: rows are samples, columns are panels.

    Args:
        named: panel name -> (B, 1, *S) array or tensor; of a volume the slice in which the first two differ most.
    """
    arrays = {name: np.asarray(panel, dtype=np.float32)[:MOST_ROWS, 0] for name, panel in named.items()}
    rows = len(next(iter(arrays.values())))
    figure = dark_figure(1.7 * len(arrays), 1.7 * rows + 0.3)
    grid = figure.subplots(rows, len(arrays), squeeze=False)
    for row in range(rows):
        sections = _telling_sections([array[row] for array in arrays.values()])
        low, high = np.nanpercentile(sections[0], [1, 99.5])
        for axis, name, section in zip(grid[row], arrays, sections, strict=True):
            # labels and probabilities keep their range; images of a sample share that of its first panel
            share = np.nanmin(section) >= 0 and np.nanmax(section) <= 1
            limits = {"vmin": 0, "vmax": 1} if share else {"vmin": low, "vmax": max(high, low + 1e-6)}
            # anterior (or superior) up and the patient's right on the left, as in the other pictures
            axis.imshow(section[::-1, ::-1], cmap="gray", **limits)
            axis.set_axis_off()
            if row == 0:
                axis.set_title(name, color="white", fontsize=8)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.3 / figure.get_figheight(), 0.03, 0.03)
    return as_png(figure)


def _telling_sections(images: list[np.ndarray]) -> list[np.ndarray]:
    """2D panels as they are; of volumes the slice in which the second panel differs most from the first."""
    if images[0].ndim == 2:
        return images
    differing = np.abs(np.nan_to_num(images[min(1, len(images) - 1)] - images[0])).mean((1, 2))
    return [image[int(differing.argmax())] for image in images]


def _largest_section(mask: np.ndarray) -> tuple[int, ...]:
    """Voxel at which the planes cross: on each axis the index with the largest cross-section; the middle if empty."""
    if not mask.any():
        return tuple(size // 2 for size in mask.shape)
    others = [tuple(a for a in range(3) if a != axis) for axis in range(3)]
    return tuple(int(mask.sum(other).argmax()) for other in others)


def _three_planes(
    image: np.ndarray, place: Sequence[int], spacing_mm: Sequence[float], axes: str, width: float = 8.4
) -> tuple[Figure, list[Axes]]:
    figure = dark_figure(width, width * 0.44)
    drawn = list(figure.subplots(1, 3))
    low, high = np.percentile(image, [1, 99.7])
    for axis, panel in enumerate(drawn):
        up, across = _up_and_across(axis, axes)
        section = _section(image, axis, place, axes)
        extent = (0, section.shape[1] * spacing_mm[across], section.shape[0] * spacing_mm[up], 0)
        panel.imshow(
            section, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, interpolation="bilinear"
        )
        panel.set_axis_off()
        if width > 5:
            panel.set_title(f"{PLANES[axes[axis]]} {place[axis] + 1}/{image.shape[axis]}", color="white", fontsize=8)
            ends = ((0.02, 0.5, axes[across]), (0.93, 0.5, OPPOSITE[axes[across]]), (0.47, 0.95, axes[up]))
            for x, y, letter in ends:
                panel.text(x, y, letter, color="yellow", fontsize=8, transform=panel.transAxes, va="center")
    figure.subplots_adjust(0.01, 0.08 if width > 5 else 0.01, 0.99, 0.85 if width > 5 else 0.99, 0.03, 0.03)
    return figure, drawn


def _up_and_across(axis: int, axes: str) -> tuple[int, int]:
    """The array axes that run up and across the plane orthogonal to `axis`: superior up, else anterior."""
    first, second = sorted((a for a in range(3) if a != axis), key=lambda a: "SAR".index(axes[a]))
    return first, second


def _section(volume: np.ndarray, axis: int, place: Sequence[int], axes: str) -> np.ndarray:
    """The plane through `place` in radiological convention: superior or anterior up, right or anterior on the left."""
    up, across = _up_and_across(axis, axes)
    section = np.take(volume, place[axis], axis=axis)
    section = section if up < across else section.T
    return section[::-1, ::-1]


def _contours(panel: Axes, mask: np.ndarray, color: str, linestyle: str) -> None:
    if not mask.any():
        return
    left, right, bottom, top = panel.get_images()[0].get_extent()
    x = (np.arange(mask.shape[1]) + 0.5) * (right - left) / mask.shape[1]
    y = (np.arange(mask.shape[0]) + 0.5) * (bottom - top) / mask.shape[0]
    panel.contour(x, y, mask, levels=[0.5], colors=color, linewidths=1.1, linestyles=linestyle)


def _title(
    prediction: np.ndarray,
    reference: np.ndarray | None,
    spacing_mm: Sequence[float] | None,
    names: Sequence[str] = ("lesion",),
) -> str:
    def volume(mask: np.ndarray) -> str:
        voxels = int((mask > 0).sum())
        return f"{voxels:,} voxels" if spacing_mm is None else f"{voxels * np.prod(spacing_mm) / 1000:.1f} ml"

    parts = [f"prediction {volume(prediction)}"]
    if reference is not None:
        each = [metrics.dice(prediction == k, reference == k) for k in range(1, len(names) + 1)]
        said = [f"Dice {np.mean(each):.2f}"]
        if len(names) > 1:
            said[0] += f" ({', '.join(f'{name} {dice:.2f}' for name, dice in zip(names, each, strict=True))})\n"
        parts = [*said, *parts, f"reference {volume(reference)}"]
    return "   ".join([*parts, "radiological: patient's right on the left"])


def dark_figure(width: float, height: float) -> Figure:
    """An empty black figure, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="black")
    FigureCanvasAgg(figure)  # no pyplot: its list of figures is shared between threads
    return figure


def as_png(figure: Figure) -> bytes:
    """The figure drawn; the same bytes every time."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
