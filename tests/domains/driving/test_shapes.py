"""Shapes: saved and opened on both grids, moved by matrices, and cut with the crop they belong to."""

import numpy as np
import pytest
from driving_files import write_frames

from domains.domain import Candidate
from domains.driving import DOMAIN, datasets
from domains.driving.entries import Grid
from domains.driving.recipes import RECIPES
from domains.driving.shapes import Shape, Shapes, corners, judged_shapes, moved, open_shapes, scaling
from domains.manifest import Subject


def points(*pairs):
    return np.array(pairs, np.float32)


def test_save__negatives_order_and_nan_survive_and_both_grids_are_there(tmp_path):
    lane = points([10, 20], [np.nan, 40], [30, 60])
    said = Shapes([5, 2], [Shape(5, 1, points([0, 0], [8, 4])), Shape(5, 0, lane)])
    said.save(tmp_path)
    Grid(stored_shape=(30, 50), native_shape=(60, 200)).save(tmp_path)
    native, stored = judged_shapes(tmp_path), open_shapes(tmp_path)
    assert native.labelled.tolist() == [2, 5] == stored.labelled.tolist() and native.on(2) == []
    assert [shape.kind for shape in native.on(5)] == [1, 0]
    np.testing.assert_array_equal(native.on(5)[1].points, lane)
    np.testing.assert_array_equal(stored.on(5)[1].points, points([2.5, 10], [np.nan, 20], [7.5, 30]))
    with pytest.raises(KeyError):
        native.on(3)


def test_save__nothing_but_negatives(tmp_path):
    Shapes([1], []).save(tmp_path)
    assert judged_shapes(tmp_path).on(1) == []


def test_shapes__on_a_frame_that_is_not_labelled():
    with pytest.raises(ValueError, match="frame 4"):
        Shapes([1, 2], [Shape(4, 0, points([0, 0]))])


def test_moved__corners_of_a_turned_box():
    quarter = np.array([[0, -1, 10], [1, 0, 0]])
    turned = moved(corners(Shape(0, 2, points([1, 2], [4, 3]))), quarter)
    assert turned.kind == 2
    np.testing.assert_allclose(turned.points, [[8, 1], [8, 4], [7, 4], [7, 1]])
    np.testing.assert_allclose(scaling((10, 20), (5, 40)), [[2, 0, 0], [0, 0.5, 0]])


RECIPE = RECIPES["road_scene"].changed({"data.height": "96", "data.width": "128", "data.crop_height": "64",
                                        "data.crop_width": "80"})  # fmt: skip


@pytest.fixture
def dots(tmp_path, monkeypatch):
    """Crops of a still with a bright dot whose place is its label, and of the same as clips."""
    middle = np.array([61.0, 50.0])
    y, x = np.indices((96, 128)) + 0.5
    dot = 200 * np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / 18) + 20
    monkeypatch.setitem(datasets.TARGETS, "road_scene", lambda shapes, shape: np.stack([s.points for s in shapes])[0])
    still = np.repeat(dot[..., None], 3, -1).round().astype(np.uint8)
    lit = ((still * share).astype(np.uint8) for share in np.linspace(0.75, 1, 12))
    write_frames(tmp_path / "a.mp4", lit, np.arange(12) / 10)
    raw = DOMAIN.read(Candidate("a", "a", {"video": tmp_path / "a.mp4"}), RECIPE)
    contract = DOMAIN.plan([{"shape": [96, 128]}], RECIPE)
    for name in ("entry", "label"):
        (tmp_path / name).mkdir()
    DOMAIN.write(raw, contract, tmp_path / "entry")
    Shapes([3, 7], [Shape(3, 0, points(middle)), Shape(7, 0, points(middle))]).save(tmp_path / "label")
    Grid.load(tmp_path / "entry").save(tmp_path / "label")
    subject = Subject(subject_id="a", group_id="a", split_bucket=0, entry="", content_digest="", facts={})
    return DOMAIN.crops([tmp_path / "entry"], [tmp_path / "label"], [subject], contract, RECIPE, True)


def test_crops__points_move_with_the_crop_and_only_labelled_frames_are_taken(dots):
    assert dots.starts(0).tolist() == [3, 7]
    batch = dots.batch([0] * 24, list(range(24)))
    assert batch.targets.shape == (24, 1, 2) and batch.targets.dtype.is_floating_point
    rows, columns = np.indices((64, 80)) + 0.5
    checked = 0
    for crop, target in zip(batch.crops[:, 0], batch.targets[:, 0].numpy(), strict=True):
        light = crop.mean(0).numpy()
        light = (light - np.quantile(light, 0.5)).clip(0.1) - 0.1
        if not (12 < target[0] < 68 and 12 < target[1] < 52):
            continue
        seen = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
        assert np.abs(seen - target).max() < 0.4
        checked += 1
    assert checked > 8
