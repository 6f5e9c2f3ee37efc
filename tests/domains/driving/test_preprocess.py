"""Recordings and frames into the store: times kept, what makes no clip refused, sizes that just cover."""

from __future__ import annotations

import json

import numpy as np
import pytest
from driving_files import save_frame
from PIL import Image

from domains.domain import Candidate
from domains.driving import DOMAIN
from domains.driving.entries import covering, judged_label, open_entry, open_label
from domains.driving.recipes import RECIPES
from domains.errors import ContractMismatch, Refused

FRAMES = RECIPES["road_scene"].changed({"data.height": "32", "data.width": "48", "data.crop_height": "32",
                                        "data.crop_width": "32"})  # fmt: skip
CLIPS = RECIPES["dashcam_lanes"].changed({"data.clip_frames": "8", "data.height": "32", "data.width": "32",
                                          "data.crop_height": "32", "data.crop_width": "32"})  # fmt: skip


def recording(path) -> Candidate:
    return Candidate("drive", "drive", {"video": path})


def test_covering__just_has_both_sides_and_keeps_the_aspect():
    assert covering((360, 480), (240, 320)) == (240, 320)
    assert covering((540, 960), (72, 128)) == (72, 128)
    assert covering((375, 1242), (72, 128)) == (72, 238)
    assert covering((240, 320), (72, 128)) == (96, 128)


def test_read__a_recording_keeps_its_times(video, tmp_path):
    seconds = [0.5, 0.6, 0.7, 0.75, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4]
    path, levels = video(seconds)
    raw = DOMAIN.read(recording(path), CLIPS)
    contract = DOMAIN.plan([DOMAIN.inspect(recording(path))], CLIPS)
    facts = DOMAIN.write(raw, contract, tmp_path)
    entry = open_entry(tmp_path)
    assert entry.pts_seconds == pytest.approx(np.array(seconds) - 0.5, abs=1e-9)
    frames = entry.read(range(len(entry)))
    assert frames.shape == (10, 32, 44, 3) and frames.dtype == np.uint8
    assert frames.mean((1, 2, 3)) == pytest.approx(levels, abs=4)
    assert facts["privacy"].startswith("none") and facts["frames"] == 10 and facts["corrupt_frames"] == 0
    assert facts["seconds"] == 0.9 and facts["frames_per_second"] == 10 and facts["longest_step_seconds"] == 0.15
    everything = json.dumps(facts) + (tmp_path / "grid.json").read_text()
    assert "drive" not in everything and str(tmp_path) not in everything


@pytest.mark.parametrize(
    ("seconds", "why"),
    [(np.arange(5) / 10, "shorter than a clip"), (np.arange(20.0), "1.00 s apart")],
)
def test_read__what_makes_no_clip_is_refused(video, seconds, why):
    with pytest.raises(Refused, match=why):
        DOMAIN.read(recording(video(seconds)[0]), CLIPS)


def test_read__digest_is_of_content_and_time(video, tmp_path):
    even, _ = video(np.arange(10) / 10, "a.mp4")
    same, _ = video(np.arange(10) / 10, "b.mp4")
    slower, _ = video(np.arange(10) / 9, "c.mp4")
    digests = [DOMAIN.read(recording(path), CLIPS).digest for path in (even, same, slower)]
    assert digests[0] == digests[1] != digests[2]
    png, pixels = save_frame(tmp_path / "a.png"), np.asarray(Image.open(tmp_path / "a.png"))
    Image.fromarray(pixels).save(tmp_path / "b.png", compress_level=0, optimize=False)
    first, second = (DOMAIN.read(Candidate("x", "x", {"frame": p}), FRAMES).digest for p in (png, tmp_path / "b.png"))
    assert first == second


def test_read__images_of_an_odd_width_as_a_recording(tmp_path):
    """FFmpeg pads the rows of such frames."""
    images = {str(n): save_frame(tmp_path / f"{n}.png", seed=n, shape=(47, 69)) for n in range(10)}
    notes = {"seconds": tuple(n / 10 for n in range(10)), "clock": "x"}
    raw = DOMAIN.read(Candidate("x", "x", images, None, notes), CLIPS)
    assert raw.facts["shape"] == [47, 69] and raw.facts["frames"] == 10


def test_read__frames_of_two_sizes_are_refused(tmp_path):
    images = {str(n): save_frame(tmp_path / f"{n}.png", shape=(48, 64 + n // 8)) for n in range(10)}
    notes = {"seconds": tuple(n / 10 for n in range(10)), "clock": "x"}
    with pytest.raises(Refused, match="differ in size"):
        DOMAIN.read(Candidate("x", "x", images, None, notes), CLIPS)


def test_write__for_another_size_is_an_error(tmp_path):
    candidate = Candidate("x", "x", {"frame": save_frame(tmp_path / "a.png")})
    contract = DOMAIN.plan([DOMAIN.inspect(candidate)], RECIPES["road_scene"])
    with pytest.raises(ContractMismatch):
        DOMAIN.write(DOMAIN.read(candidate, FRAMES), contract, tmp_path)


def test_write_label__both_grids_of_a_frame(tmp_path):
    ids = np.zeros((48, 64), np.uint8)
    ids[:, 32:] = 3
    ids[:12] = 11
    Image.fromarray(ids).save(tmp_path / "mask.png")
    candidate = Candidate("x", "x", {"frame": save_frame(tmp_path / "a.png")}, tmp_path / "mask.png")
    contract = DOMAIN.plan([DOMAIN.inspect(candidate)], FRAMES)
    raw = DOMAIN.read(candidate, FRAMES)
    facts = DOMAIN.write_label(DOMAIN.read_label(candidate, raw, contract), contract, tmp_path)
    native, stored = judged_label(tmp_path), open_label(tmp_path)
    assert native.shape == (48, 64) and stored.shape == (1, 36, 48)
    assert (native[:12] == 255).all() and (stored[0, :9] == 255).all() and (stored[0, 9:, 24:] == 3).all()
    assert facts["labelled_share"] == 0.75 and facts["class_fractions"][3] == 0.5
