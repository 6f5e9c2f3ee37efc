"""Files of lanes: every kind read to points of the source, frames that do not exist named, the rest refused."""

import json

import numpy as np
import pytest
from PIL import Image

from domains.domain import Candidate
from domains.driving.lane_labels import from_culane, from_mask, lane_shapes
from domains.errors import Refused


def lanes(tmp_path, *lines, notes=None):
    path = tmp_path / "drive.lanes.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return Candidate("drive", "drive", {}, path, {"label_kind": "lanes", **(notes or {})})


def read(candidate, frames=range(3), exist=3):
    return lane_shapes(candidate, frames, exist, (120, 160))


def test_lane_shapes__json_lines(tmp_path):
    two = {"frame": 1, "lanes": [[80, -2, 82, -2], [-2, -2, 5, -2], [7, 8, 9, 10]], "h_samples": [0, 40, 80, 119]}
    found = read(lanes(tmp_path, two, "", {"frame": 2, "lanes": [], "h_samples": []}))
    assert found.labelled.tolist() == [1, 2] and found.on(2) == []
    first, second = found.on(1)  # the lane of a single point is none
    assert np.array_equal(first.points, [[80, 0], [np.nan, 40], [82, 80], [np.nan, 119]], equal_nan=True)
    assert second.points[:, 0].tolist() == [7, 8, 9, 10]


def test_lane_shapes__a_part_has_the_frames_of_its_time(tmp_path):
    lines = [{"frame": n, "lanes": [[10 * n] * 2], "h_samples": [0, 119]} for n in (4, 6, 9)]
    found = read(lanes(tmp_path, *lines), range(5, 8), 10)
    assert found.labelled.tolist() == [1] and found.on(1)[0].points[0].tolist() == [60, 0]


def test_lane_shapes__a_still_of_a_sequence(tmp_path):
    lines = [{"frame": n, "lanes": [[n, n]], "h_samples": [0, 9]} for n in (0, 7)]
    found = read(lanes(tmp_path, *lines, notes={"frame": 7}), range(1), 1)
    assert found.labelled.tolist() == [0] and found.on(0)[0].points[0, 0] == 7
    with pytest.raises(Refused, match="no labelled frame"):
        read(lanes(tmp_path, *lines, notes={"frame": 3}), range(1), 1)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([{"frame": n, "lanes": [], "h_samples": []} for n in (0, 3, 8)], "frame 3, 8, but .* has frames 0..2"),
        ([{"frame": -1, "lanes": [], "h_samples": []}], "frame -1"),
        ([{"frame": 0, "lanes": [[1, 2]], "h_samples": [1]}], "number of points"),
        ([{"frame": 0, "lanes": [["a"]], "h_samples": [1]}], "something else than numbers"),
        ([{"frame": 0, "lanes": [[math := 1e999]], "h_samples": [math]}], "something else than numbers"),
        ([{"frame": 1, "lanes": [], "h_samples": []}] * 2, "two lines for frame 1"),
        ([{"frame": "x", "lanes": [], "h_samples": []}], "no whole number"),
        ([{"lanes": [], "h_samples": []}], "KeyError"),
        (["[1, 2]"], "not lanes"),
        (["not json"], "JSONDecodeError"),
        ([""], "no labelled frame"),
    ],
)  # fmt: skip
def test_lane_shapes__what_is_no_label_is_refused(tmp_path, lines, why):
    with pytest.raises(Refused, match=why):
        read(lanes(tmp_path, *lines))


def test_from_culane__a_line_a_lane(tmp_path):
    path = tmp_path / "a.lines.txt"
    path.write_text("-3.5 590 10 580 20.25 570\n\n5 5\n1 590 2 580 \n")
    first, second = from_culane(path)
    assert first.points.tolist() == [[-3.5, 590], [10, 580], [20.25, 570]] and len(second.points) == 2
    path.write_text("")
    assert from_culane(path) == []
    for wrong in ("1 2 3", "a b", "1 inf 2 3"):
        path.write_text(wrong)
        with pytest.raises(Refused, match="CULane"):
            from_culane(path)


def mask(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_from_mask__a_value_or_a_piece_is_a_lane(tmp_path):
    values = np.zeros((100, 200), np.uint8)
    values[20:60, 50:54], values[70:90, 50:54] = 1, 1
    values[:, 150:151] = 4
    values[0, 0], values[5:7, 10:30] = 255, 3  # nothing; a stroke in a single tenth row
    first, second = from_mask(mask(tmp_path, values), (100, 200), None)
    assert first.points[:, 0].tolist() == [52] * 6 and first.points[:, 1].tolist() == [
        25.5,
        35.5,
        45.5,
        55.5,
        75.5,
        85.5,
    ]
    assert second.points[:, 0].tolist() == [150.5] * 10
    by_name = from_mask(mask(tmp_path, values), (100, 200), [1])
    assert sorted(len(shape.points) for shape in by_name) == [2, 4]  # two dashes
    with pytest.raises(Refused, match="mask of 100 x 200"):
        from_mask(mask(tmp_path, values), (50, 200), None)
