"""Generated X-ray-like images with a table: a bright patch in one lung is the finding; AP lies with it more often."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLUMNS = ("image", "finding_labels", "patient_id", "age", "sex", "view")


def chest(seed: int, *, ill: bool, side: tuple[int, int] = (128, 128)) -> np.ndarray:
    """(H, W) uint8: two dark lungs on a bright body, a heart on the right of the picture."""
    draw = np.random.default_rng(seed)
    h, w = np.meshgrid(*(np.linspace(-1, 1, n) for n in side), indexing="ij")
    image = 170 - 40 * (h**2 + w**2) + 8 * draw.normal(size=side)
    for centre in (-0.42, 0.42):
        image -= 90 * np.exp(-((((w - centre) / 0.3) ** 2 + (h / 0.6) ** 2) ** 2))
    image += 60 * np.exp(-((((w - 0.18) / 0.22) ** 2 + ((h - 0.25) / 0.3) ** 2) ** 2))
    if ill:
        at = draw.uniform(-0.3, 0.3)
        image += 70 * np.exp(-(((w - draw.choice([-0.42, 0.42])) / 0.16) ** 2 + ((h - at) / 0.2) ** 2))
    return image.clip(0, 255).astype(np.uint8)


def write_rows(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    """A labels.csv of these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), **options)
        table.writeheader()
        table.writerows(rows)
    return folder / "labels.csv"


def write_archive(folder: Path, patients: int, seed: int = 0) -> list[dict[str, Any]]:
    """PNG images of patients (every third has two), every second of whom is ill; gives the table's rows."""
    draw = np.random.default_rng(seed)
    rows = []
    (folder / "images").mkdir(parents=True)
    for patient in range(patients):
        ill = patient % 2 == 1
        for visit in range(1 + (patient % 3 == 0)):
            name = f"private-{patient:03}_{visit}.png"
            Image.fromarray(chest(1000 * seed + 10 * patient + visit, ill=ill)).save(folder / "images" / name)
            view = "AP" if draw.random() < (0.8 if ill else 0.3) else "PA"
            rows.append({
                "image": name, "finding_labels": "Pneumonia|Effusion" if ill else "No Finding",
                "patient_id": f"secret-{patient}", "age": 20 + patient % 60, "sex": "FM"[patient % 2], "view": view,
            })  # fmt: skip
    write_rows(folder, rows)
    return rows
