"""Parts of a recording: together the whole, none longer than a minute, five where there is time for them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from driving_files import save_frame, write_video

from domains.domain import Candidate
from domains.driving.parts import cut, edges, shortest
from domains.driving.recipes import RECIPES, settings

CLIPS = settings(RECIPES["dashcam_lanes"].changed({"data.clip_frames": "8", "data.frames_per_second": "10"}))


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.4, 1), (1.9, 1), (3.5, 3), (8.84, 5), (299, 5), (301, 6), (7200, 120)]
)
def test_edges__how_many(seconds, count):
    at = edges(seconds, 1.0)
    assert len(at) == count + 1 and at[0] == 0 and at[-1] == seconds
    assert max(np.diff(at)) <= 60 + 1e-9 and np.ptp(np.diff(at)) < 1e-6


def test_shortest__holds_a_clip():
    assert shortest(CLIPS) == 1.0
    assert shortest(CLIPS.model_copy(update={"clip_frames": 32})) == 4.0


def test_cut__a_video_by_its_header_and_the_last_part_is_open(tmp_path):
    write_video(tmp_path / "a.mp4", np.arange(80) / 10)
    parts = cut(Candidate("a", "d", {"video": tmp_path / "a.mp4"}, None, {"clock": "x"}), CLIPS)
    assert [part.name for part in parts] == [f"a@00{n}" for n in range(1, 6)]
    spans = [part.notes["part"] for part in parts]
    assert spans[0][0] == 0 and spans[-1][1] == math.inf
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(part.group == "d" and part.notes["clock"] == "x" for part in parts)


def test_cut__frames_go_to_one_part_each_and_keep_their_numbers(tmp_path):
    files = {f"{n:04d}": save_frame(tmp_path / f"{n}.png") for n in range(50)}
    seconds = tuple(100 + n / 10 for n in range(50))
    parts = cut(Candidate("a", "d", files, None, {"seconds": seconds}), CLIPS)
    assert len(parts) == 5
    assert [name for part in parts for name in part.images] == list(files)
    assert [part.notes["first_frame"] for part in parts] == [0, 10, 20, 30, 40]
    assert parts[2].notes["seconds"] == seconds[20:30] and parts[2].notes["origin"] == 100
    assert {(part.notes["recording_frames"], len(part.notes["recording"])) for part in parts} == {(50, 8)}


def test_cut__what_cannot_be_opened_stays_whole(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    [whole] = cut(Candidate("a", "d", {"video": tmp_path / "a.mp4"}), CLIPS)
    assert "part" not in whole.notes
