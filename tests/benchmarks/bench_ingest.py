"""Ingest: volumes/s against plain gunzip of the same files, and peak memory at 20 and at 200 volumes."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (128, 128, 64)


def write_archive(folder: Path, volumes: int) -> None:
    """Head-sized int16 volumes with texture, one patient each, no two alike."""
    z, y, x = np.ogrid[-1 : 1 : SHAPE[2] * 1j, -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[0] * 1j]
    head = (x.T**2 / 0.7 + y.T.reshape(1, -1, 1) ** 2 / 0.9 + z.T.reshape(1, 1, -1) ** 2 / 0.8 < 1).astype(np.float32)
    for i in range(volumes):
        rng = np.random.default_rng(i)
        data = head * rng.normal(600 + i, 60, SHAPE) + rng.gamma(2, 8, SHAPE)
        patient = folder / f"patient_{i:04}"
        patient.mkdir(parents=True)
        image = nibabel.Nifti1Image(data.astype(np.int16), np.diag([1.2, 1.2, 1.5, 1]))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, patient / "flair.nii.gz")


def ingest_here(folder: str, home: str) -> None:
    """Ingests in this process and prints seconds and peak memory."""
    from domains.domain import find_recipe
    from pipelines.ingest import ingest

    _, recipe = find_recipe("brain_tumor")
    started = time.perf_counter()
    counts = ingest(Path(folder), recipe, Path(home)).counts
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb, "accepted": counts["accepted"]}))


def ingest_in_process(folder: Path, home: Path) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), str(home)]
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": root})
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def gunzip(folder: Path) -> float:
    """Seconds to inflate every file, one after the other."""
    started = time.perf_counter()
    for file in sorted(folder.rglob("*.nii.gz")):
        with gzip.open(file) as stream:
            while stream.read(1 << 22):
                pass
    return time.perf_counter() - started


def run() -> dict[str, float]:
    """Figures of one run; the ratio says how many times slower than gunzip a volume is."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SELFSIGHT_KEY"] = str(Path(scratch) / "key")
        for volumes in (20, 200):
            folder = Path(scratch) / f"archive{volumes}"
            write_archive(folder, volumes)
            figures[f"ingest_peak_mb_{volumes}"] = round(
                (done := ingest_in_process(folder, Path(scratch) / f"home{volumes}"))["peak_mb"]
            )
            assert done["accepted"] == volumes
            if volumes == 200:
                figures["ingest_volumes_per_s"] = round(volumes / done["seconds"], 2)
                figures["gunzip_volumes_per_s"] = round(volumes / gunzip(folder), 2)
    figures["ingest_share_of_gunzip_speed"] = round(
        figures["ingest_volumes_per_s"] / figures["gunzip_volumes_per_s"], 3
    )
    figures["ingest_peak_ratio_200_to_20"] = round(figures["ingest_peak_mb_200"] / figures["ingest_peak_mb_20"], 3)
    return figures


if __name__ == "__main__":
    if len(sys.argv) == 3:
        ingest_here(sys.argv[1], sys.argv[2])
    else:
        print(json.dumps(run()))
