"""Pictures of X-rays with what is found in them and where, and a prediction as files beside the source's name."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from domains.domain import Candidate
from domains.head import Evidence, Prediction
from domains.manifest import Contract
from domains.medical.decisions import CONFIDENCE, answer
from domains.medical.entries import open_entry
from domains.medical.show import as_png, dark_figure
from domains.medical.xray_images import read_pixels

INCHES = 3.4
LINE_INCHES = 0.17
"""Height of a line of text."""
WORDS = {1: "yes", 0: "no", None: "not stated"}
MARK, OPACITY = np.array([255, 140, 0], np.float32), 0.45
"""Colour over the image where most speaks for a finding, and its share there: what lies below stays to be seen."""

SHOWS = "Grad-CAM, coarse and relative: a hint at what the model looked at, not where a finding lies"


def thumbnail(folder: Path) -> bytes:
    """Small PNG of an X-ray entry as the network gets it."""
    return _drawn([grey(open_entry(folder).read()[0, 0, ::-1, ::-1])], [], 1.4)


def judged(
    image: np.ndarray,
    probability: Mapping[str, float],
    label: Mapping[str, int | None] | None,
    evidence: Evidence | None = None,
) -> bytes:
    """PNG of an image as it hangs on the light box, probability and answer for each finding above it.

    Args:
        image: (H, W), the first row at the top.
        probability: by finding.
        label: by finding, 1, 0 or None for unknown; None: there is no label.
        evidence: (K, h, w) as the image lies; that for the likeliest finding is laid over the image a second time.
    """
    lines = []
    for name, value in probability.items():
        said = f"{plain(name)} {value:.2f}: {answer(value)}"
        said += f", neither yes nor no reaches {CONFIDENCE:.2f}" if answer(value) == "unknown" else ""
        lines.append(said + (f"   label: {WORDS[label[name]]}" if label is not None else ""))
    shown = [grey(image)]
    if evidence is not None:
        likeliest = max(probability, key=lambda name: probability[name])
        at = list(probability).index(likeliest)
        shown.append(overlaid(shown[0], evidence[at]))
        speaks = f"where most speaks for {plain(likeliest)}" if evidence[at].any() else "no place speaks for it"
        lines.append(f"right: Grad-CAM, {speaks}; coarse, relative; line: half as much")
    return _drawn(shown, lines, INCHES)


def write_prediction(
    candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path, evidence: Evidence | None = None
) -> list[Path]:
    """Writes pictures and probabilities of one image below `<folder>/<subject>/`.

    `<image>_picture.png` shows the image with what is said of it, `<image>_result.json` has for each finding its
    probability and an answer: yes, no, or unknown where neither is sure enough. `<image>_evidence_<finding>.png`, pixel
    on pixel with the source, has laid over it what speaks for the finding. Not a diagnosis, and the file says so.
    """
    source = candidate.images[contract.rules["channels"][0]]
    names = list(candidate.notes.get("findings", ())) or [f"finding {k}" for k in range(1, len(prediction) + 1)]
    found = {name: round(float(value), 4) for name, value in zip(names, prediction, strict=True)}
    below = folder / candidate.name
    below.mkdir(parents=True, exist_ok=True)
    paths = [below / f"{source.stem}_{what}" for what in ("picture.png", "result.json")]
    image = read_pixels(source)[0]
    result: dict[str, Any] = {
        "image": source.name,
        "probability": found,
        "answer": {name: answer(value) for name, value in found.items()},
        "unknown_below": CONFIDENCE,
        "note": "research software, not for diagnosis",
    }
    maps = None if evidence is None else evidence[:, ::-1, ::-1]
    if maps is not None:
        result["evidence_shows"] = SHOWS
        result["evidence"] = {}
        for name, one in zip(names, maps, strict=True):
            path = below / f"{source.stem}_evidence_{re.sub(r'[^A-Za-z0-9-]+', '_', name)}.png"
            path.write_bytes(_png(overlaid(grey(image), one)))
            result["evidence"][name] = path.name
            paths.append(path)
    paths[0].write_bytes(judged(image, found, None, maps))
    paths[1].write_text(json.dumps(result, indent=1) + "\n")
    return paths


def grey(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8, the darkest and brightest half percent cut."""
    low, high = np.percentile(image, [0.5, 99.5])
    scaled: np.ndarray = np.clip((image - low) / max(high - low, 1e-6) * 255, 0, 255).round().astype(np.uint8)
    return scaled


def overlaid(image: np.ndarray, one: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: a grey image (H, W) with a map (h, w) in [0, 1] over the same box in colour, bilinear.

    A line runs around where the map is half as strong as at its strongest place.
    """
    size = (image.shape[1], image.shape[0])
    fine = np.asarray(Image.fromarray(np.ascontiguousarray(one)).resize(size, Image.Resampling.BILINEAR))
    inner = fine >= 0.5
    line = inner & ~ndimage.binary_erosion(inner, iterations=max(1, min(image.shape) // 400), border_value=1)
    share = np.where(line, 1, OPACITY * fine.clip(0, 1))[..., None]
    mixed: np.ndarray = (image[..., None] * (1 - share) + MARK * share).round().astype(np.uint8)
    return mixed


def plain(name: str) -> str:
    """A finding's name as people write it."""
    return name.replace("_", " ")


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _drawn(images: list[np.ndarray], lines: list[str], width: float) -> bytes:
    """Images side by side, each `width` inches wide, below lines of text."""
    height = width * images[0].shape[0] / images[0].shape[1]
    above = LINE_INCHES * len(lines) + 0.1 if lines else 0.0
    figure = dark_figure(width * len(images), height + above)
    for axes, image in zip(figure.subplots(1, len(images), squeeze=False)[0], images, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
        axes.set_axis_off()
    figure.subplots_adjust(0, 0, 1, height / (height + above), wspace=0.01)
    figure.text(0.01, 1 - 0.04 / (height + above), "\n".join(lines), color="white", fontsize=9, va="top",
                parse_math=False)  # fmt: skip
    return as_png(figure)
