"""Recordings through ingest: one verdict for each file though it gives several subjects; no name in the store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from driving_files import moving, write_frames

from domains.domain import find_recipe
from domains.manifest import read_manifest
from domains.splits import split
from domains.store import Store
from pipelines.dataset import open_dataset
from pipelines.erase import erase, plan_erasure
from pipelines.ingest import ingest

SMALL = {"data.height": "32", "data.width": "48", "data.crop_height": "32", "data.crop_width": "32"}
CLIPS = SMALL | {"data.clip_frames": "8", "data.frames_per_second": "10"}


def drive(path: Path, seconds: float = 6.0, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = int(seconds * 10)
    return write_frames(path, moving(count, seed=seed), np.arange(count) / 10, "libx264")


@pytest.mark.parametrize("clips", [True, False])
def test_ingest__a_file_has_one_verdict_and_several_subjects(tmp_path: Path, clips: bool) -> None:
    recipe = find_recipe("road_scene")[1].changed(CLIPS if clips else SMALL)
    drive(tmp_path / "in" / "a.mp4")
    done = ingest(tmp_path / "in", recipe, tmp_path / "home")
    assert done.counts == {
        "found": 1, "accepted": 1, "refused": 0, "labels": 0, "ignored": 0, "subjects": 5, "groups": 1
    }  # fmt: skip
    manifest = read_manifest(done.manifest)
    assert sum(subject.facts["frames"] for subject in manifest.subjects) == 60
    found = split(manifest.subjects)
    assert found.within_group and len(found.test) == 1 and 2 <= len(found.development) <= 3
    again = ingest(tmp_path / "in", recipe, tmp_path / "home")
    assert again.counts == done.counts and again.manifest_digest == done.manifest_digest


def test_ingest__what_was_lost_of_a_file_is_said_with_its_verdict(tmp_path: Path) -> None:
    recipe = find_recipe("road_scene")[1].changed(CLIPS)
    frames = moving(60)
    frames[24:36] = 0
    (tmp_path / "in").mkdir()
    write_frames(tmp_path / "in" / "a.mp4", frames, np.arange(60) / 10, "libx264")
    done = ingest(tmp_path / "in", recipe, tmp_path / "home")
    assert (done.counts["accepted"], done.counts["refused"], done.counts["subjects"]) == (1, 0, 4)
    [record] = read_manifest(done.manifest).records
    assert record.reason == "1 of its 5 parts refused: black from beginning to end"
    assert not done.refused and done.notes == [f"{(tmp_path / 'in' / 'a.mp4').absolute()}: {record.reason}"]


def test_ingest__a_copy_is_refused_part_by_part_and_counted_once(tmp_path: Path) -> None:
    recipe = find_recipe("road_scene")[1].changed(CLIPS)
    first = drive(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "b.mp4").write_bytes(first.read_bytes())
    done = ingest(tmp_path / "in", recipe, tmp_path / "home")
    assert (done.counts["accepted"], done.counts["refused"], done.counts["subjects"]) == (1, 1, 5)


def test_erase__a_recording_and_its_file(tmp_path: Path) -> None:
    recipe = find_recipe("road_scene")[1].changed(CLIPS)
    drive(tmp_path / "in" / "a.mp4")
    drive(tmp_path / "in" / "b.mp4", seed=1)
    home = tmp_path / "home"
    done = ingest(tmp_path / "in", recipe, home)
    group = read_manifest(done.manifest).subjects[0].group_id
    assert not erase(plan_erasure(group, home), home)
    manifest, _ = open_dataset(recipe, home)
    assert len(manifest.subjects) == 5 and {r.verdict for r in manifest.records} == {"accepted", "ignored"}
    assert len(list((Store(home).home / "store" / "ingest").iterdir())) == 5


def test_ingest__no_name_and_no_path_in_the_store(tmp_path: Path) -> None:
    recipe = find_recipe("road_scene")[1].changed(CLIPS)
    drive(tmp_path / "in" / "miller-to-work.mp4")
    done = ingest(tmp_path / "in", recipe, tmp_path / "home")
    content = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"miller" not in content and str(tmp_path).encode() not in content
    facts = json.dumps(read_manifest(done.manifest).subjects[0].facts)
    assert '"recording": "' in facts and "privacy" in facts
