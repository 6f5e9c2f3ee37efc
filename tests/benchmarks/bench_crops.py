"""Random crops a second from the store, against nibabel, MONAI's PersistentDataset and a NumPy memory map.

All readers give the same float32 crop, one thread each, files in the page cache. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import PersistentDataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from scipy import ndimage

from domains.domain import Candidate
from domains.medical.entries import STEPS, open_entry
from domains.medical.generate import draw_patient
from domains.medical.layout import scan
from domains.medical.plan import inspect, plan
from domains.medical.preprocess import read, write
from domains.medical.recipes import RECIPES

CROP, SIDE = 64, 256
SECONDS = 4.0
"""Of measuring per reader."""

Reader = Callable[[tuple[int, int, int], tuple[int, int, int]], np.ndarray]


def run() -> dict[str, Any]:
    """Crops a second per reader: a generated 256^3 volume, and the tumour set where it is present."""
    with tempfile.TemporaryDirectory() as name:
        result = {"generated_256_crop_64": _compare(_generated(Path(name)), Path(name), "3d", (CROP,) * 3)}
        if (tumor_set := _tumor_set()) is not None:
            folder = Path(name) / "tumor"
            folder.mkdir()
            result["tumor_set_3_slices"] = _compare(tumor_set, folder, "2d", (3, 128, 128))
    return result


def _generated(folder: Path) -> Candidate:
    """A generated head, enlarged to 256^3 and made noisy again, so that it is as hard to compress as a real one."""
    flair = draw_patient(0, seed=1).flair.astype(np.float32)
    large = ndimage.zoom(flair, [SIDE / n for n in flair.shape], order=1)
    noise = np.random.default_rng(0).normal(0, 0.02 * np.percentile(flair, 99), large.shape)
    image = nib.Nifti1Image(np.abs(large + noise).astype(np.int16).transpose(2, 1, 0), np.eye(4))
    image.header.set_xyzt_units("mm")
    nib.save(image, folder / "flair.nii.gz")
    return Candidate("generated", "generated", {"flair": folder / "flair.nii.gz"})


def _tumor_set() -> Candidate | None:
    named = os.environ.get("SELFSIGHT_TEST_DATA")
    data = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = data / "medical" / "brain_mri_lgg"
    return scan(folder, RECIPES["brain_tumor"]).candidates[0] if folder.is_dir() else None


def _compare(candidate: Candidate, folder: Path, kind: str, crop: tuple[int, int, int]) -> dict[str, Any]:
    recipe = RECIPES["brain_tumor"].changed({"data.plan": kind})
    contract = plan([inspect(candidate)], recipe)
    entry_folder = folder / "entry"
    entry_folder.mkdir()
    write(read(candidate, recipe), contract, entry_folder)
    entry = open_entry(entry_folder)
    path = candidate.images["flair"]

    np.save(folder / "array.npy", np.round(entry.read() * STEPS).astype(np.int16))
    mapped = np.load(folder / "array.npy", mmap_mode="r")
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
    cached = PersistentDataset([{"image": str(path)}], load, cache_dir=folder / "monai")

    def nibabel_crop(low: tuple[int, int, int], high: tuple[int, int, int]) -> np.ndarray:
        whole = nib.as_closest_canonical(nib.load(path))
        values = np.asarray(whole.dataobj).T[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        return values.astype(np.float32)

    readers: dict[str, Reader] = {
        "store": lambda low, high: entry.read(list(zip(low, high, strict=True))),
        "nibabel": nibabel_crop,
        "monai_persistent": lambda low, high: np.asarray(
            cached[0]["image"][(0, *(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True)))], np.float32
        ),
        "memory_map": lambda low, high: np.divide(
            mapped[(slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))], STEPS, dtype=np.float32
        ),
    }
    rates = {name: round(_rate(reader, entry.shape, crop), 1) for name, reader in readers.items()}
    stored = sum(file.stat().st_size for file in entry_folder.iterdir())
    return {
        "crops_per_second": rates,
        "store_over_nibabel": round(rates["store"] / rates["nibabel"], 1),
        "store_over_monai": round(rates["store"] / rates["monai_persistent"], 1),
        "store_over_memory_map": round(rates["store"] / rates["memory_map"], 2),
        "bytes": {"store": stored, "nii_gz": path.stat().st_size, "npy": (folder / "array.npy").stat().st_size},
    }


def _rate(reader: Reader, shape: tuple[int, int, int], crop: tuple[int, int, int]) -> float:
    draw = np.random.default_rng(0)
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < SECONDS or count < 3:
        low = [int(draw.integers(n - c + 1)) for n, c in zip(shape, crop, strict=True)]
        high = [a + c for a, c in zip(low, crop, strict=True)]
        reader((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        count += 1
    return count / passed


if __name__ == "__main__":
    print(json.dumps(run()))
