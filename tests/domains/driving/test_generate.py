"""Generated drives: both recipes read them, lanes lie on paint, and the camera moves."""

import numpy as np

from domains.driving import DOMAIN
from domains.driving.entries import open_entry
from domains.driving.recipes import RECIPES
from domains.driving.shapes import open_shapes


def whole(folder):
    entry = open_entry(folder)
    return entry.read(range(len(entry)))


def test_generate__frames_and_recordings_of_one_folder(generated):
    frames = DOMAIN.scan(generated, RECIPES["road_scene"])
    clips = DOMAIN.scan(generated, RECIPES["dashcam_lanes"].changed({"data.clip_frames": "8"}))
    assert len(frames.candidates) == 20 and {c.group for c in frames.candidates} == {"drive000", "drive001"}
    assert len(clips.candidates) == 2 and all(c.label for c in (*frames.candidates, *clips.candidates))
    files = {p for p in generated.rglob("*") if p.is_file()}
    for scan in (frames, clips):
        taken = {p for c in scan.candidates for p in (*c.images.values(), c.label)}
        assert taken | set(scan.ignored) == files


def test_generate__lanes_lie_on_bright_paint(lane_frames):
    """The end of the own lane's right line, which is not dashed, is brighter than the road on both sides of it."""
    for entry, label in zip(lane_frames.entries[::5], lane_frames.labels[::5], strict=True):
        [frame] = whole(entry).mean(-1)
        points = open_shapes(label).on(0)[1].points
        for x, y in points[np.isfinite(points[:, 0])][-4:]:
            row = frame[int(y)]
            assert row[int(x)] > 1.3 * max(row[int(x) - 8], row[min(int(x) + 8, len(row) - 1)])


def test_generate__the_camera_moves(clips):
    frames = whole(clips.entries[0]).astype(float)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert steps.min() > 2
    assert np.abs(frames[9] - frames[0]).mean() > 1.2 * steps.mean()


def test_generate__every_class_is_there_sooner_or_later(generated):
    from PIL import Image

    values = set()
    for path in sorted((generated / "masks").iterdir()):
        values |= set(np.unique(np.asarray(Image.open(path))).tolist())
    assert values == set(range(11))
