"""Boxes of each format by hand; names that mean a class; what no frame can have is refused."""

import json
import math
import os

import numpy as np
import pytest

from domains.domain import Candidate
from domains.driving.augment import placed
from domains.driving.box_labels import (
    Box,
    Boxes,
    box_shapes,
    label_class,
    read_coco,
    read_kitti,
    read_yolo,
    rows_of,
    shapes_of,
)
from domains.driving.classes import OBSTACLES
from domains.driving.coco import IGNORED_ALL, crowd
from domains.driving.shapes import Shape, corners, moved
from domains.errors import Refused

FRAME = (100, 200)


def coco(path, images, annotations, names=("car", "person")):
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def about(image, bbox, category=1, **more):
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def rows(said, classes=OBSTACLES):
    return rows_of(shapes_of(0, said, FRAME, classes)).tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Car", 0),
        ("bus", 0),
        ("Person_sitting", 1),
        ("person", 1),
        ("motor-cycle", 2),
        ("Bicyclist", 2),
        ("Tram", None),
    ],
)
def test_label_class__words_for_a_class(name, expected):
    assert label_class(name, OBSTACLES) == expected


def test_label_class__the_recipes_own_names_come_first():
    assert [label_class(name, ("truck", "vehicle")) for name in ("Truck", "car", "person")] == [0, 1, None]


def test_read_coco__boxes_crowds_and_images_without_any(tmp_path):
    path = coco(
        tmp_path / "coco.json",
        [{"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}, {"id": 9, "file_name": "b.jpg"}],
        [about(7, [10, 20, 30, 40]), about(7, [0, 0, 50, 60], 2, iscrowd=1), about(8, [0, 0, 5, 5])],
    )
    said = read_coco(path)
    assert said.astray == 1 and said.of["b.jpg"] == Boxes(())
    assert rows(said.of["a.jpg"]) == [[0, 10, 20, 40, 60], [crowd(1), 0, 0, 50, 60]]


def test_read_coco__is_read_again_when_it_changes(tmp_path):
    path = coco(tmp_path / "coco.json", [{"id": 1, "file_name": "a.jpg"}], [])
    assert not read_coco(path).of["a.jpg"].boxes
    stamp = path.stat().st_mtime_ns
    coco(path, [{"id": 1, "file_name": "a.jpg"}], [about(1, [0, 0, 5, 5])])
    os.utime(path, ns=(stamp + 1, stamp + 1))
    assert read_coco(path).of["a.jpg"].boxes


@pytest.mark.parametrize(
    "text", ["", "[]", '{"images": []}', '{"images": 3, "annotations": [], "categories": []}', "\x00"]
)
def test_read_coco__something_else(tmp_path, text):
    (tmp_path / "coco.json").write_text(text)
    with pytest.raises(Refused, match="not a COCO file"):
        read_coco(tmp_path / "coco.json")


def test_read_coco__a_coordinate_that_is_none(tmp_path):
    for bbox in ([0, 0, math.nan, 3], [0, 0, 3], ["a", 0, 1, 1]):
        with pytest.raises(Refused, match="not a COCO file"):
            read_coco(coco(tmp_path / "coco.json", [{"id": 1, "file_name": "a"}], [about(1, bbox)]))


def test_read_yolo__shares_of_the_frame(tmp_path):
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.1 0.2\n\n0 0.25 0.5 0.5 1.0 0.93\n")
    assert rows(read_yolo(tmp_path / "a.txt", ["car", "rider"])) == [[2, 90, 40, 110, 60], [0, 0, 0, 100, 100]]
    (tmp_path / "a.txt").write_text("")
    assert rows(read_yolo(tmp_path / "a.txt", ["car"])) == []
    for wrong, why in (
        ("2 0.5 0.5 0.1 0.1", "2 names"),
        ("1 0.5 0.5", "a line is not"),
        ("0 a 0 1 1", "no|not a number"),
    ):
        (tmp_path / "a.txt").write_text(wrong)
        with pytest.raises(Refused, match=why):
            read_yolo(tmp_path / "a.txt", ["car", "rider"])


def test_read_kitti__types_and_areas_to_ignore(tmp_path):
    (tmp_path / "a.txt").write_text(
        "Van 0.00 0 -1.5 10.5 20.0 60.5 80.0 1 1 1 1 1 1 1\n"
        "DontCare -1 -1 -10 100 10 150 30 -1 -1 -1 -1000 -1000 -1000 -10\n"
        "Misc 0 0 0 1 1 9 9 1 1 1 1 1 1 1\n"
    )
    assert rows(read_kitti(tmp_path / "a.txt")) == [[0, 10.5, 20, 60.5, 80], [IGNORED_ALL, 100, 10, 150, 30]]
    (tmp_path / "a.txt").write_text("Car 1 2 3\n")
    with pytest.raises(Refused, match="eight columns"):
        read_kitti(tmp_path / "a.txt")


def test_shapes_of__cut_off_at_the_edges_or_refused():
    assert rows(Boxes((Box("car", (-20, -5, 30, 40)), Box("car", (150, 60, 260, 160))))) == [
        [0, 0, 0, 30, 40], [0, 150, 60, 200, 100],
    ]  # fmt: skip
    with pytest.raises(Refused, match="outside the frame of 100 x 200"):
        rows(Boxes((Box("car", (210, 10, 250, 50)),)))
    with pytest.raises(Refused, match="outside"):  # also of a class that is left out
        rows(Boxes((Box("tram", (0, -50, 20, 0)),)))
    with pytest.raises(Refused, match="without area"):
        rows(Boxes((Box("car", (10, 10, 10, 50)),)))
    with pytest.raises(Refused, match=r"a frame of 50 x 60 pixels; it has 100 x 200"):
        rows(Boxes((), size=(50, 60)))


def test_rows_of__mirrored_boxes_are_exact_and_turned_ones_grow_little():
    box = corners(Shape(0, 1, np.array([[20, 10], [30, 50]], np.float32)))
    mirror = placed((100, 200), (100, 200), mirrored=True, angle=0)
    assert rows_of([moved(box, mirror)]).tolist() == [[1, 170, 10, 180, 50]]
    turned = rows_of([moved(box, placed((100, 200), (100, 200), mirrored=False, angle=math.radians(4)))])[0]
    width, height = turned[3] - turned[1], turned[4] - turned[2]
    # of the ellipse: hypot(10 cos, 40 sin) and hypot(10 sin, 40 cos); the corners' surroundings are 12.8 wide
    assert (width, height) == (pytest.approx(10.36, abs=0.01), pytest.approx(39.91, abs=0.01))


def test_box_shapes__of_a_part_of_a_recording(tmp_path):
    images = [{"id": n, "frame": n} for n in (2, 5, 9)]
    path = coco(tmp_path / "a.boxes.json", images, [about(5, [1, 2, 3, 4]), about(9, [5, 5, 5, 5], 2)])
    how = {"format": "recording", "classes": OBSTACLES}
    part = Candidate("a", "a", {"video": tmp_path / "a.mp4"}, path, {"boxes": how})
    shapes = box_shapes(part, range(4, 8), 10, FRAME)
    assert shapes.labelled.tolist() == [1] and rows_of(shapes.on(1)).tolist() == [[0, 1, 2, 4, 6]]
    negative = box_shapes(part, range(4), 10, FRAME)
    assert negative.labelled.tolist() == [2] and negative.on(2) == []
    with pytest.raises(Refused, match=r"boxes of frame 9, but the recording has frames 0\.\.8"):
        box_shapes(part, range(4, 8), 9, FRAME)
    with pytest.raises(Refused, match="no labelled frame"):
        box_shapes(part, range(6, 9), 10, FRAME)
