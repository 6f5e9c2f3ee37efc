"""Masks and lanes as classes: void stays void, values that are no class are refused, lanes fall where they are."""

import json

import numpy as np
import pytest
from PIL import Image

from domains.driving.classes import VOID
from domains.driving.labels import frame_label, lane_label
from domains.errors import Refused


def mask(tmp_path, values):
    path = tmp_path / "mask.png"
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return path


def test_frame_label__by_the_names_of_the_source_or_by_number(tmp_path):
    path = mask(tmp_path, [[0, 1, 2], [3, 255, 1]])
    assert frame_label(path, (2, 3), 3).tolist() == [[0, 1, 2], [VOID, VOID, 1]]
    assert frame_label(path, (2, 3), 3, {1: 2, 2: 0}).tolist() == [[VOID, 2, 0], [VOID, VOID, 2]]


def test_frame_label__what_does_not_fit_is_refused(tmp_path):
    path = mask(tmp_path, [[0, 7]])
    with pytest.raises(Refused, match="no class"):
        frame_label(path, (1, 2), 3)
    with pytest.raises(Refused, match="mask of 1 x 2 pixels"):
        frame_label(path, (2, 2), 3)


def lanes(tmp_path, *lines):
    path = tmp_path / "drive.lanes.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_lane_label__drawn_on_the_scaled_frame(tmp_path):
    straight = {"frame": 1, "lanes": [[80, 80, 80, -2]], "h_samples": [0, 40, 80, 119]}
    label = lane_label(lanes(tmp_path, straight), range(3), 3, (60, 80), (120, 160))
    assert (label[0] == VOID).all() and (label[2] == VOID).all()
    rows, columns = np.nonzero(label[1])
    assert rows.min() == 0 and 38 <= rows.max() <= 42 and abs(columns.mean() - 40) < 1 and np.ptp(columns) <= 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"frame": 3, "lanes": [], "h_samples": []}, "frame 3"),
        ({"frame": 0, "lanes": [[1, 2]], "h_samples": [1]}, "number of points"),
        ({"lanes": [], "h_samples": []}, "KeyError"),
        ("not json", "JSONDecodeError"),
        ("", "no labelled frame"),
    ],
)
def test_lane_label__what_is_no_label_is_refused(tmp_path, line, why):
    with pytest.raises(Refused, match=why):
        lane_label(lanes(tmp_path, line), range(3), 3, (60, 80), (120, 160))


def test_lane_label__a_part_has_the_frames_of_its_time(tmp_path):
    lines = [{"frame": n, "lanes": [[10 * n] * 2], "h_samples": [0, 119]} for n in (4, 6, 9)]
    label = lane_label(lanes(tmp_path, *lines), range(5, 8), 10, (60, 80), (120, 160))
    assert [(one != VOID).any() for one in label] == [False, True, False]
    assert abs(np.nonzero(label[1])[1].mean() - 30) < 1
