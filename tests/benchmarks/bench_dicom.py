"""DICOM: series/s of a shuffled tree, from headers to volumes, against SimpleITK's series reader and pydicom alone."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "benchmarks")]

SERIES, SLICES, SIDE = 20, 30, 256
ROUNDS = 3


def write_tree(folder: Path, series: int) -> None:
    """Series of one study each, all files in one folder under names that say nothing."""
    from dicom_files import write_series

    rng = np.random.default_rng(0)
    count = 0
    for number in range(series):
        volume = rng.integers(0, 400, (SLICES, SIDE, SIDE)).astype(np.uint16)
        volume[:, 60:200, 60:200] += 1500
        uids = {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1", "PatientID": f"{number}"}
        for path in write_series(folder / "new", volume, **uids):
            path.rename(folder / f"IM{(count * 7919) % 100_003:06d}.dcm")
            count += 1
    shutil.rmtree(folder / "new")


def ours(folder: Path) -> int:
    """Tree to volumes, every check made."""
    from domains.medical.dicom.tree import grow
    from domains.medical.dicom.volume import read_values

    candidates = grow(sorted(folder.iterdir()), ["flair"]).candidates
    return sum(read_values(list(candidate.images.values()))[1].size for candidate in candidates)


def simpleitk(folder: Path) -> int:
    """The same with GDCM's series finder and SimpleITK's series reader."""
    found = 0
    for uid in SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
        found += SimpleITK.GetArrayFromImage(reader.Execute()).size
    return found


def pydicom_alone(folder: Path) -> int:
    """Every file and its pixels, in no order."""
    return sum(pydicom.dcmread(path).pixel_array.size for path in folder.iterdir())


def best(of: Callable[[Path], int], folder: Path) -> float:
    """Seconds of the fastest of a few rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        assert of(folder) == SERIES * SLICES * SIDE * SIDE
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def run() -> dict[str, float]:
    """Series/s of each and ratios; and what ingestion as a whole does, with its memory at 20 and 100 series."""
    from bench_ingest import ingest_in_process

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SELFSIGHT_KEY"] = str(Path(scratch) / "key")
        folder = Path(scratch) / "tree"
        folder.mkdir()
        write_tree(folder, SERIES)
        mine, theirs, alone = (best(of, folder) for of in (ours, simpleitk, pydicom_alone))
        done = {SERIES: ingest_in_process(folder, Path(scratch) / "home")}
        larger = Path(scratch) / "larger"
        larger.mkdir()
        write_tree(larger, 5 * SERIES)
        done[5 * SERIES] = ingest_in_process(larger, Path(scratch) / "home of larger")
        assert [d["accepted"] for d in done.values()] == [n * SLICES for n in done]
    return {
        "series_per_s": round(SERIES / mine, 1),
        "speed_against_simpleitk": round(theirs / mine, 2),
        "speed_against_pydicom_alone": round(alone / mine, 2),
        "ingest_series_per_s": round(5 * SERIES / done[5 * SERIES]["seconds"], 1),
        "ingest_peak_ratio_100_to_20": round(done[5 * SERIES]["peak_mb"] / done[SERIES]["peak_mb"], 3),
    }


if __name__ == "__main__":
    print(json.dumps(run()))
