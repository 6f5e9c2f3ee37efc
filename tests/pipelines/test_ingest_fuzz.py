"""2,000 damaged NIfTI and DICOM files through ingestion: a verdict for each, soon, in bounded memory, none lost."""

from __future__ import annotations

import gzip
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from damage import damaged
from dicom_files import FLAIR, instance
from nifti_files import write_nifti
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

import domains.medical.readers
import domains.medical.xray_dicom
from domains.domain import find_recipe
from pipelines.ingest import Ingested, ingest

FILES = 1000
"""Of each of the two kinds."""
SECONDS, MEGABYTES = 10.0, 1500


def somewhere(content: bytes, chance: random.Random, header: int) -> bytes:
    """Damaged; one file in three only behind its header."""
    return damaged(content, chance, first=header if chance.random() < 1 / 3 else 0)


def nifti_archive(folder: Path, chance: random.Random) -> None:
    """A mask beside every image, half of the images packed; every file is damaged."""
    plain = [gzip.decompress(write_nifti(folder / "a.nii.gz", n, (40, 40, 6)).read_bytes()) for n in range(20)]
    (folder / "a.nii.gz").unlink()
    masks = [one[:352] + (np.frombuffer(one[352:], np.int16) > 500).astype("<i2").tobytes() for one in plain]
    for number in range(FILES // 2):
        patient = folder / f"p{number}"
        patient.mkdir()
        content = somewhere(chance.choice(plain), chance, 352)
        if number % 2:
            (patient / "flair.nii").write_bytes(content)
        else:  # damaged within the packing, or the packing itself
            packed = gzip.compress(content, 1)
            (patient / "flair.nii.gz").write_bytes(somewhere(packed, chance, 20) if number % 4 else packed)
        mask, header = chance.choice(masks), 352
        # any change in its voxels is no class: half of the masks are damaged in the header alone
        (patient / "mask.nii").write_bytes(
            damaged(mask, chance, end=header) if number % 4 < 2 else somewhere(mask, chance, header)
        )


def xray_archive(folder: Path, chance: random.Random) -> None:
    """Radiographs in several transfer syntaxes, every one damaged."""
    rng, whole = np.random.default_rng(0), []
    for number in range(20):
        pixels = (np.linspace(0, 3000, 96) + rng.integers(0, 900, (90, 96))).astype(np.uint16)
        tags = {"Modality": "DX", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "PatientID": f"{number}",
                "WindowCenter": 2000, "WindowWidth": 3000}  # fmt: skip
        made = instance(pixels, 1, None, **dict.fromkeys(FLAIR), ImageOrientationPatient=None, **tags)
        if syntax := (None, RLELossless, JPEG2000Lossless, JPEGLSLossless)[number % 4]:
            made.compress(syntax)
        made.save_as(folder / "a.dcm")
        content = (folder / "a.dcm").read_bytes()
        whole.append((content, content.index(b"\xe0\x7f\x10\x00")))  # where the pixel data begin
        assert pydicom.dcmread(folder / "a.dcm").pixel_array.shape == (90, 96)
    (folder / "a.dcm").unlink()
    for number in range(FILES):
        content, header = chance.choice(whole)
        (folder / f"{number}.dcm").write_bytes(somewhere(content, chance, header))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe_name", "archive", "decoder"),
    [("brain_tumor", nifti_archive, (domains.medical.readers, "read_content")),
     ("chest_xray", xray_archive, (domains.medical.xray_dicom, "decoded"))],
)  # fmt: skip
def test_ingest__damaged_files(
    recipe_name: str, archive: Callable, decoder: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    archive(tmp_path / "in", random.Random(0))
    reached: list[float] = []
    module, name = decoder
    inner = getattr(module, name)

    def counted(*args: object) -> object:
        reached.append(time.monotonic())
        return inner(*args)

    monkeypatch.setattr(module, name, counted)
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done: Ingested = ingest(tmp_path / "in", find_recipe(recipe_name)[1], tmp_path / "home")
    seconds = time.monotonic() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    counts = done.counts
    print(counts, f"{len(reached)} reached the decoder, {seconds:.0f} s, {grown:.0f} MB")
    assert counts["found"] == FILES == sum(counts[v] for v in ("accepted", "refused", "labels", "ignored"))
    assert counts["accepted"] and counts["refused"] and (counts["labels"] or recipe_name == "chest_xray")
    assert len(reached) >= FILES / 3
    assert max(np.diff([started, *reached, time.monotonic()])) < SECONDS and grown < MEGABYTES
