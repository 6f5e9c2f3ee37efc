"""Pictures of frames and clips as PNG: thumbnails, predictions in colour with a legend, an objective's panels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from domains.driving.classes import LANE_COLOURS, ROAD_COLOURS, VOID
from domains.driving.entries import open_entry
from domains.driving.free_space import corridor

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # a second that most commands do not need

OPACITY = 0.55
FREE_COLOUR = (80, 255, 120)
DPI = 100
MOST_ROWS = 4
"""Samples in a figure of panels."""
SHOWN_FRAMES = 4
"""Of a clip."""


def thumbnail(folder: Path) -> bytes:
    """Small PNG of a subject entry: the frame, or a few of a recording's, evenly spaced."""
    entry = open_entry(folder)
    some = entry.read(np.unique(np.linspace(0, len(entry) - 1, SHOWN_FRAMES).round().astype(int)))
    image = Image.fromarray(np.concatenate(list(some), axis=1))
    image.thumbnail((480, 180))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def coloured(frame: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the frame under its classes' colours; where nothing is labelled it stays as it is."""
    table = np.zeros((256, 3), np.float32)
    colours = np.array(list(ROAD_COLOURS.values()), np.float32)
    table[: len(colours)] = colours
    share = np.where(classes == VOID, 0, OPACITY)[..., None]
    mixed: np.ndarray = (frame * (1 - share) + table[classes] * share).astype(np.uint8)
    return mixed


def with_corridor(frame: np.ndarray, free_rows: int) -> np.ndarray:
    """(H, W, 3) uint8: the frame with the corridor ahead lightened as far as it is free, and a line where that ends."""
    height, width = frame.shape[:2]
    inside = corridor((height, width)).copy()
    inside[: height - free_rows] = False
    lit = np.where(inside[..., None], frame * 0.6 + np.array(FREE_COLOUR) * 0.4, frame).astype(np.uint8)
    end, thick = height - max(free_rows, 1), max(1, height // 120)
    across = corridor((height, width))[end] if free_rows else corridor((height, width))[-1]
    lit[max(0, end - thick) : end + thick, across] = FREE_COLOUR
    return lit


def with_lanes(frame: np.ndarray, lanes: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """(H, W, 3) uint8: the frame with lanes, (slot, points (N, 2) x, y) each, drawn in their slots' colours."""
    import cv2

    canvas = np.ascontiguousarray(frame).copy()
    for slot, points in lanes:
        line = [np.rint((points - 0.5) * 16).astype(np.int32)]  # in sixteenths of a pixel
        wide = max(1, round(frame.shape[1] / 240))
        cv2.polylines(canvas, line, False, (0, 0, 0), wide + 2, cv2.LINE_AA, shift=4)
        cv2.polylines(canvas, line, False, LANE_COLOURS[slot], wide, cv2.LINE_AA, shift=4)
    return canvas


def enlarged(frame: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(*shape, 3) uint8: a stored frame in its source's size."""
    return np.asarray(Image.fromarray(frame).resize(shape[::-1], Image.Resampling.BILINEAR))


def side_by_side(columns: Mapping[str, np.ndarray]) -> bytes:
    """PNG of named images (H, W, 3) uint8 of one size."""
    height, width = next(iter(columns.values())).shape[:2]
    across = 4.8
    figure = _figure(across * len(columns), across * height / width + 0.25)
    _in_columns(figure, columns)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.25 / figure.get_figheight(), 0.02, 0.02)
    return _png(figure)


def panels(named: Mapping[str, Any]) -> bytes:
    """PNG of an objective's panels: rows are samples, columns are panels; of a clip a strip of frames, early to late.

    Args:
        named: panel name -> (B, 1, *S) array or tensor.
    """
    strips = {name: [_strip(one) for one in np.asarray(p, np.float32)[:MOST_ROWS, 0]] for name, p in named.items()}
    rows = len(next(iter(strips.values())))
    height, width = next(iter(strips.values()))[0].shape
    each = min(7.0, 1.4 * width / height)
    figure = _figure(each * len(strips), each * height / width * rows + 0.3)
    grid = figure.subplots(rows, len(strips), squeeze=False)
    for row in range(rows):
        low, high = np.nanpercentile(next(iter(strips.values()))[row], [1, 99])
        for axes, (name, strip) in zip(grid[row], strips.items(), strict=True):
            # labels and probabilities keep their range; images of a sample share that of its first panel
            share = np.nanmin(strip[row]) >= 0 and np.nanmax(strip[row]) <= 1
            limits = {"vmin": 0, "vmax": 1} if share else {"vmin": low, "vmax": max(high, low + 1e-6)}
            axes.imshow(strip[row], cmap="gray", aspect="auto", **limits)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, color="white", fontsize=8)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.3 / figure.get_figheight(), 0.03, 0.03)
    return _png(figure)


def _strip(panel: np.ndarray) -> np.ndarray:
    """(H, W) as it is; (T, H, W) -> a few frames side by side."""
    if panel.ndim == 2:
        return panel
    some = np.unique(np.linspace(0, len(panel) - 1, SHOWN_FRAMES).round().astype(int))
    return np.concatenate(list(panel[some]), axis=1)


def with_legend(columns: Mapping[str, np.ndarray]) -> bytes:
    """PNG of named images (H, W, 3) uint8 of one size, with the colours of the road scene's classes below."""
    from matplotlib.patches import Patch

    height, width = next(iter(columns.values())).shape[:2]
    across = 3.6 if len(columns) > 1 else 6.0
    figure = _figure(across * len(columns), across * height / width + 0.75)
    _in_columns(figure, columns)
    handles = [Patch(color=(r / 255, g / 255, b / 255), label=name) for name, (r, g, b) in ROAD_COLOURS.items()]
    figure.legend(handles=handles, loc="lower center", ncols=6, frameon=False, labelcolor="white", fontsize=8)
    bottom, top = 0.5 / figure.get_figheight(), 1 - 0.25 / figure.get_figheight()
    figure.subplots_adjust(0.01, bottom, 0.99, top, 0.02, 0.02)
    return _png(figure)


def _in_columns(figure: Figure, columns: Mapping[str, np.ndarray]) -> None:
    for axes, (name, image) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(name, color="white", fontsize=9)
        axes.set_axis_off()


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="black")
    FigureCanvasAgg(figure)  # no pyplot: its list of figures is shared between threads
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
