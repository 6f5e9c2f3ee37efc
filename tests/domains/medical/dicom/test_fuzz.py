"""Damaged DICOM files: whatever the damage, a file is read or refused, and nothing else happens."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from damage import damaged
from dicom_files import blob, write_enhanced, write_series

from domains.errors import Refused
from domains.medical.dicom.tree import grow
from domains.medical.dicom.volume import read_values
from domains.medical.xray_images import read_pixels

ROUNDS = 400


def somewhere(content: bytes, chance: random.Random) -> bytes:
    """Damaged; headers, being small, are hit more often than pixels."""
    return damaged(content, chance, end=None if chance.random() < 0.3 else 1500)


def go_through(paths: list[Path]) -> str:
    """What became of the files as a volume: every one has a place, and what is taken can be read or is refused."""
    tree = grow(paths, ["image"])
    taken = [list(candidate.images.values()) for candidate in tree.candidates]
    assert sorted([*(p for files in taken for p in files), *tree.ignored, *tree.refused]) == sorted(paths)
    try:
        for files in taken:
            read_values(files)
    except Refused:
        return "refused"
    return "read" if taken else "left out"


@pytest.mark.slow
def test_grow__damaged_series(tmp_path: Path) -> None:
    chance, seen = random.Random(0), set()
    paths = write_series(tmp_path / "series", blob(5, 24, 24))
    write_enhanced(tmp_path / "series" / "enhanced.dcm", blob(5, 24, 24))
    originals = {path: path.read_bytes() for path in [*paths, tmp_path / "series" / "enhanced.dcm"]}
    for _ in range(ROUNDS):
        victim = chance.choice(list(originals))
        victim.write_bytes(somewhere(originals[victim], chance))
        seen.add(go_through(sorted(originals)))
        victim.write_bytes(originals[victim])
    assert seen == {"read", "refused"} or seen == {"read", "refused", "left out"}


@pytest.mark.slow
@pytest.mark.real_data
def test_grow__damaged_real_files(real_data: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    sources = sorted((real_data / "medical/dicom/odd_and_malformed").glob("*.dcm"))
    sources += sorted((real_data / "medical/dicom/siemens_epi_mosaic").rglob("*.dcm"))[:1]
    sources += sorted((real_data / "medical/dicom/cxr_single").iterdir())[:1]
    contents = [path.read_bytes() for path in sources]
    path = tmp_path / "a.dcm"
    for _ in range(ROUNDS):
        path.write_bytes(somewhere(chance.choice(contents), chance))
        go_through([path])
        try:
            read_pixels(path)
        except Refused:
            continue
