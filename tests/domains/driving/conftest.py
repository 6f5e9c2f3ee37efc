"""Generated drives read into entries, and where the real data lies."""

from __future__ import annotations

import pytest
from driving_files import read_all, write_video

from domains.driving import DOMAIN
from domains.driving.generate import write_frames
from domains.driving.recipes import RECIPES

LANES = RECIPES["dashcam_lanes"].changed({"data.height": "96", "data.width": "128", "data.crop_height": "96",
                                          "data.crop_width": "128"})  # fmt: skip


@pytest.fixture
def video(tmp_path):
    """Writes a video below the test's folder: (seconds of its frames, name) -> path, grey levels of the frames."""

    def make(seconds, name="drive.mp4", **kwargs):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path, write_video(path, seconds, **kwargs)

    return make


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A folder of two generated drives of ten frames."""
    folder = tmp_path_factory.mktemp("drives")
    write_frames(folder, 20, 7)
    return folder


@pytest.fixture(scope="session")
def frames(generated, tmp_path_factory):
    """Four frames with masks."""
    candidates = DOMAIN.scan(generated, RECIPES["road_scene"]).candidates[8:12]
    return read_all(candidates, RECIPES["road_scene"], tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="session")
def clips(generated, tmp_path_factory):
    """Both drives as recordings with lanes."""
    recipe = LANES.changed({"data.clip_frames": "8"})
    return read_all(list(DOMAIN.scan(generated, recipe).candidates), recipe, tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def lane_frames(generated, tmp_path_factory):
    """All frames with lanes."""
    return read_all(list(DOMAIN.scan(generated, LANES).candidates), LANES, tmp_path_factory.mktemp("lane-frames"))


@pytest.fixture
def real_driving(real_data):
    """The folder of real driving data, or a skip."""
    return real_data / "driving"
