"""1,000 damaged MP4 files through ingestion: a verdict for each, soon, in bounded memory, none lost."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from damage import damaged
from driving_files import moving, write_frames

import domains.driving.video as video
from domains.domain import find_recipe
from pipelines.ingest import ingest

FILES = 1000
SECONDS, MEGABYTES = 10.0, 1500
SMALL = {"data.height": "32", "data.width": "48", "data.crop_height": "32", "data.crop_width": "32"}


def mp4_archive(folder: Path, chance: random.Random) -> None:
    """H.264 and MPEG-4, most with their tables before the pictures; two files in three are damaged in the pictures."""
    whole = []
    for number in range(8):
        codec, options = [("libx264", {"bf": "2"}), ("mpeg4", {})][number % 2]
        frames, first = moving(20, (48, 64), number), number < 6
        write_frames(folder / "a.mp4", frames, np.arange(20) / 10, codec, options, tables_first=first)
        content = (folder / "a.mp4").read_bytes()
        whole.append((content, content.index(b"mdat") + 4, None if first else content.index(b"moov") - 4))
    (folder / "a.mp4").unlink()
    for number in range(FILES):
        content, first, end = chance.choice(whole)
        inside = chance.random() < 2 / 3
        mutated = damaged(content, chance, first, end) if inside else damaged(content, chance)
        (folder / f"{number:04d}.mp4").write_bytes(mutated)


@pytest.mark.slow
def test_ingest__damaged_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    mp4_archive(tmp_path / "in", random.Random(0))
    reached: dict[Path, float] = {}
    frames: set[Path] = set()
    inner = video._decoded

    def counted(path: Path, *args: object) -> object:
        reached[path] = time.monotonic()
        for picture in inner(path, *args):
            frames.add(path)
            yield picture

    monkeypatch.setattr(video, "_decoded", counted)
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = ingest(tmp_path / "in", find_recipe("road_scene")[1].changed(SMALL), tmp_path / "home")
    seconds = time.monotonic() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    counts = done.counts
    print(counts, f"{len(frames)} reached the decoder and gave frames, {seconds:.0f} s, {grown:.0f} MB")
    assert counts["found"] == FILES == sum(counts[v] for v in ("accepted", "refused", "labels", "ignored"))
    assert counts["accepted"] > FILES / 5 and counts["refused"] > FILES / 20
    assert len(frames) >= FILES / 3
    assert max(np.diff([started, *sorted(reached.values()), time.monotonic()])) < SECONDS and grown < MEGABYTES
