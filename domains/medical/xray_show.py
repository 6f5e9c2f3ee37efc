"""Pictures of X-rays with what is found in them, and a prediction as files beside the source's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from domains.domain import Candidate
from domains.head import Prediction
from domains.manifest import Contract
from domains.medical.entries import open_entry
from domains.medical.show import as_png, dark_figure
from domains.medical.xray_images import read_pixels

INCHES = 3.4
WORDS = {1: "yes", 0: "no", None: "not stated"}


def thumbnail(folder: Path) -> bytes:
    """Small PNG of an X-ray entry as the network gets it."""
    return _drawn(open_entry(folder).read()[0, 0, ::-1, ::-1], "", 1.4)


def judged(image: np.ndarray, probability: Mapping[str, float], label: Mapping[str, int | None] | None) -> bytes:
    """PNG of an image as it hangs on the light box, the probability of each finding above it.

    Args:
        image: (H, W), the first row at the top.
        probability: by finding.
        label: by finding, 1, 0 or None for unknown; None: there is no label.
    """
    lines = []
    for name, value in probability.items():
        reference = f"   label: {WORDS[label[name]]}" if label is not None else ""
        lines.append(f"{name.replace('_', ' ')} {value:.2f}{reference}")
    return _drawn(image, "\n".join(lines), INCHES)


def write_prediction(candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path) -> list[Path]:
    """Writes picture and probabilities of one image below `<folder>/<subject>/`.

    `<image>_picture.png` shows the source image at its own size, `<image>_result.json` has the probability of each
    finding. Not a diagnosis, and the file says so.
    """
    source = candidate.images[contract.rules["channels"][0]]
    names = list(candidate.notes.get("findings", ())) or [f"finding {k}" for k in range(1, len(prediction) + 1)]
    found = {name: round(float(value), 4) for name, value in zip(names, prediction, strict=True)}
    below = folder / candidate.name
    below.mkdir(parents=True, exist_ok=True)
    paths = [below / f"{source.stem}_{what}" for what in ("picture.png", "result.json")]
    paths[0].write_bytes(judged(read_pixels(source)[0], found, None))
    result = {"image": source.name, "probability": found, "note": "research software, not for diagnosis"}
    paths[1].write_text(json.dumps(result, indent=1) + "\n")
    return paths


def _drawn(image: np.ndarray, title: str, width: float) -> bytes:
    height = width * image.shape[0] / image.shape[1]
    above = 0.22 * len(title.splitlines()) + 0.08 if title else 0.0
    figure = dark_figure(width, height + above)
    axes = figure.subplots()
    low, high = np.percentile(image, [0.5, 99.5])
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")
    axes.set_axis_off()
    figure.subplots_adjust(0, 0, 1, height / (height + above))
    figure.text(0.02, 1 - 0.04 / (height + above), title, color="white", fontsize=9, va="top", parse_math=False)
    return as_png(figure)
