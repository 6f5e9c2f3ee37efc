"""A model on a recording as a stream."""

from __future__ import annotations

import json
from dataclasses import replace

import av
import numpy as np
import pytest
from driving_files import write_video
from PIL import Image

from domains.domain import Candidate
from domains.driving import DOMAIN
from domains.driving.recipes import RECIPES
from domains.errors import Refused

RECIPE = RECIPES["dashcam_obstacles"]
SECONDS = [0.5, 0.6, 0.7, 0.75, 0.9, 1.0, 1.1]


@pytest.fixture
def drive(tmp_path):
    """Seven frames of rising grey levels, at uneven times."""
    path = tmp_path / "drive.mp4"
    levels = write_video(path, SECONDS)
    return Candidate("town/drive", "drive", {"video": path}), levels


def contract_of(recipe, candidate):
    return DOMAIN.plan([DOMAIN.inspect(candidate)], recipe)


def a_box_as_bright_as_the_frame(frames, native_shape):
    """A stand-in for a network: one box a frame whose score is the frame's brightness."""
    assert frames.dtype == np.uint8 and len(native_shape) == 2
    return [np.array([[0, frame.mean() / 255, 4, 4, 30, 20]], np.float32) for frame in frames]


def test_stream__every_frame_with_its_own_prediction_and_time(drive, tmp_path):
    recording, levels = drive
    files = DOMAIN.stream(recording, a_box_as_bright_as_the_frame, contract_of(RECIPE, recording), RECIPE, tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "town/drive_overlay.mp4", "town/drive.boxes.jsonl", "town/drive_summary.json", "town/drive_contact.png"
    ]  # fmt: skip
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(7))
    assert [line["pts_seconds"] for line in lines] == pytest.approx(np.array(SECONDS) - 0.5, abs=1e-6)
    scores = [line["boxes"][0]["score"] * 255 if line["boxes"] else np.nan for line in lines]
    seen = np.isfinite(scores)
    assert seen.sum() >= 5 and np.array(scores)[seen] == pytest.approx(np.array(levels)[seen], abs=4)
    with av.open(str(files[0])) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert np.array(times) - times[0] == pytest.approx(np.array(SECONDS) - 0.5, abs=1e-3)
    summary = json.loads(files[2].read_text())
    assert summary["frames"] == 7 and summary["head"] == "obstacles"
    assert set(summary["milliseconds_per_frame"]) == {"decode", "model", "draw and write"}
    sure = [1 / (2 - abs(2 * level / 255 - 1)) for level in levels]
    assert summary["worst_moments"][0]["frame"] == int(np.argmin(sure))
    assert Image.open(files[3]).size[0] > 100


def test_stream__frames_of_a_clip_model_between_its_times_get_the_nearest(drive, tmp_path):
    recording, _ = drive
    recipe = RECIPES["dashcam_lanes"].changed({"data.clip_frames": "4", "data.frames_per_second": "10"})
    clips = []

    def number_of_the_clip(frames, native_shape):
        clips.append(len(frames))
        rows = np.arange(6, dtype=np.float32) * 4
        lane = np.stack([np.full(6, len(clips)), rows, np.ones(6)], -1)
        return [np.stack([lane] * 4)] * len(frames)

    DOMAIN.stream(recording, number_of_the_clip, contract_of(recipe, recording), recipe, tmp_path)
    assert clips == [4, 4]  # 0.5 to 0.9 s, and 0.9 to 1.1 s filled up
    lines = (tmp_path / "town/drive.lanes.jsonl").read_text().splitlines()
    assert len(lines) == 7


def test_stream__a_part_is_predicted_as_its_whole_recording(drive):
    recording, _ = drive
    part = replace(recording, name="town/drive@002", notes={"part": (0.2, 0.4)})
    assert DOMAIN.recording(part) == recording
    assert DOMAIN.recording(Candidate("a", "a", {"frame": recording.images["video"]})) is None


def test_stream__nothing_is_left_of_a_file_that_is_refused(tmp_path):
    path = tmp_path / "broken.mp4"
    write_video(path, SECONDS)
    recording = Candidate("broken", "broken", {"video": path})
    contract = contract_of(RECIPE, recording)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(Refused):
        DOMAIN.stream(recording, a_box_as_bright_as_the_frame, contract, RECIPE, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_stream__what_the_model_raises_is_raised(drive, tmp_path):
    recording, _ = drive

    def broken(frames, native_shape):
        raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        DOMAIN.stream(recording, broken, contract_of(RECIPE, recording), RECIPE, tmp_path)
