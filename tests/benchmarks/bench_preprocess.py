"""Volumes preprocessed/s, one thread: read, reoriented, resampled, normalised; against MONAI and TorchIO.

Ours also checks each volume, finds the head and writes the store entry.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

VOLUMES, SHAPE = 6, (144, 144, 72)
SPACINGS = ((1.0, 1.0, 2.0), (1.25, 1.25, 2.5))
"""Of every other volume in mm; the target is the middle of the two."""


def write_volumes(folder: Path) -> list[Path]:
    """Heads of int16 noise in dark air, half of them in a spacing of their own, axes LPS."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    head = sum(a**2 for a in axes) < 0.8
    paths = []
    for number in range(VOLUMES):
        rng = np.random.default_rng(number)
        data = head * rng.normal(600, 60, SHAPE) + rng.gamma(2, 8, SHAPE)
        path = folder / f"patient_{number}" / "flair.nii.gz"
        path.parent.mkdir(parents=True)
        image = nibabel.Nifti1Image(data.astype(np.int16), np.diag([*SPACINGS[number % 2], 1]) * [[-1], [-1], [1], [1]])
        image.header.set_xyzt_units("mm")
        nibabel.save(image, path)
        paths.append(path)
    return paths


def ours(folder: Path, scratch: Path) -> tuple[Callable[[Path], Any], Sequence[float]]:
    """What ingestion does with one volume, and the spacing (D, H, W) that the plan chose."""
    from domains.domain import find_recipe

    domain, recipe = find_recipe("brain_tumor")
    recipe = recipe.changed({"data.plan": "3d"})
    candidates = {next(iter(c.images.values())): c for c in domain.scan(folder, recipe).candidates}
    contract = domain.plan([domain.inspect(c) for c in candidates.values()], recipe)

    def one(path: Path) -> None:
        entry = scratch / path.parent.name
        entry.mkdir(exist_ok=True)
        for old in entry.iterdir():
            old.unlink()
        domain.write(domain.read(candidates[path], recipe), contract, entry)

    return one, contract.rules["spacing_mm"]


def monai(spacing: Sequence[float]) -> Callable[[Path], Any]:
    """MONAI's transforms for the same steps."""
    from monai import transforms as t

    wanted = tuple(reversed(spacing))
    return t.Compose(
        [t.LoadImage(ensure_channel_first=True, image_only=True), t.Orientation("RAS", labels=None),
         t.Spacing(wanted, mode="bilinear"), t.NormalizeIntensity(nonzero=True)]
    )  # fmt: skip


def torchio(spacing: Sequence[float]) -> Callable[[Path], Any]:
    """TorchIO's transforms for the same steps."""
    import torchio as tio

    wanted = tuple(reversed(spacing))
    steps = tio.Compose([tio.ToCanonical(), tio.Resample(wanted), tio.ZNormalization(tio.ZNormalization.mean)])
    return lambda path: steps(tio.ScalarImage(path)).data


def rate(of: Callable[[Path], Any], paths: Sequence[Path]) -> float:
    """Volumes/s of the fastest of three rounds."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        for path in paths:
            of(path)
        seconds.append(time.perf_counter() - started)
    return len(paths) / min(seconds)


def run() -> dict[str, float]:
    """Volumes/s of each and how many times the peers' speed ours is."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "in"
        paths = write_volumes(folder)
        mine, spacing = ours(folder, Path(scratch))
        each = {"ours": mine, "monai": monai(spacing), "torchio": torchio(spacing)}
        rates = {name: rate(of, paths) for name, of in each.items()}
    return {f"volumes_per_s_{name}": round(value, 2) for name, value in rates.items()} | {
        f"speed_against_{name}": round(rates["ours"] / rates[name], 2) for name in ("monai", "torchio")
    }


if __name__ == "__main__":
    print(json.dumps(run()))
