"""Every file of boxes finds its frame or a reason; what is wrong in it is named."""

import json
from pathlib import Path

import pytest

from domains.driving.box_files import left_out
from domains.driving.layout import scan
from domains.driving.recipes import RECIPES

OBSTACLES = RECIPES["dashcam_obstacles"]


def folder(source: Path, *names: str, **content: str) -> Path:
    for name in names:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.get(path.name.split(".")[0], ""))
    return source


def looked(source: Path, recipe=OBSTACLES):
    """Scan, the candidates by name, what is ignored by file name; every file has exactly one place."""
    found = scan(source, recipe)
    taken = {p for c in found.candidates for p in (*c.images.values(), c.label) if p is not None}
    files = {p for p in source.rglob("*") if p.is_file()}
    assert taken | set(found.ignored) | set(found.refused) == files and not taken & set(found.ignored)
    return found, {c.name: c for c in found.candidates}, {p.name: why for p, why in found.ignored.items()}


def table(images, annotations=(), names=("car", "tram")):
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return json.dumps({"images": images, "annotations": list(annotations), "categories": categories})


def test_scan__coco_beside_images_and_masks(tmp_path):
    said = table(
        [{"id": n, "file_name": name} for n, name in enumerate(("images/d_1.jpg", "elsewhere/d_2.jpg", "d_9.jpg"), 1)],
        [{"image_id": 1, "category_id": number, "bbox": [0, 0, 4, 4]} for number in (1, 2, 2)],
    )  # fmt: skip
    source = folder(
        tmp_path / "camvid", "images/d_1.jpg", "images/d_2.jpg", "images/d_3.jpg", "masks/d_1.png",
        "boxes_from_masks_coco.json", "other.json", boxes_from_masks_coco=said,
    )  # fmt: skip
    found, candidates, ignored = looked(source)
    labels = {name: c.label and c.label.name for name, c in candidates.items()}
    assert labels == {"images/d_1": "boxes_from_masks_coco.json", "images/d_2": "boxes_from_masks_coco.json",
                      "images/d_3": None}  # fmt: skip
    assert set(ignored) == {"d_1.png", "other.json"} and "learns from boxes" in ignored["d_1.png"]
    path = source / "boxes_from_masks_coco.json"
    assert found.refused == {path: "boxes of 1 frames that are not there"} and found.alike == {path: ["d_9.jpg"]}
    assert found.notes == ["boxes that are none of vehicle, pedestrian, cyclist are left out: tram (2)"]


def test_scan__coco_of_other_frames(tmp_path):
    source = folder(
        tmp_path / "a", "d_1.jpg", "annotations.json", annotations=table([{"id": 3, "file_name": "d_9.jpg"}])
    )
    _, candidates, ignored = looked(source)
    assert candidates["d_1"].label is None and ignored == {"annotations.json": "boxes of frames that are not here"}


def test_scan__yolo_and_its_names(tmp_path):
    names = {"train": "data.yaml", "val": "classes.txt"}
    for split, file in names.items():
        folder(tmp_path / "yolo", f"{split}/images/d_1.jpg", f"{split}/images/d_2.jpg", f"{split}/labels/d_1.txt",
               f"{split}/labels/d_7.txt", f"{split}/{file}", data="names: {0: person, 1: kite}", classes="person\nkite",
               d_1="0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1")  # fmt: skip
    found, candidates, ignored = looked(tmp_path / "yolo")
    for split in names:
        assert candidates[f"{split}/images/d_1"].notes["boxes"]["names"] == ("person", "kite")
        assert candidates[f"{split}/images/d_2"].label is None
    assert ignored == {"d_7.txt": "boxes without their frame", "data.yaml": "says what the classes are",
                       "classes.txt": "says what the classes are"}  # fmt: skip
    assert found.notes == ["boxes that are none of vehicle, pedestrian, cyclist are left out: kite (2)"]


def test_scan__yolo_without_names_is_refused(tmp_path):
    found, _, _ = looked(folder(tmp_path / "a", "images/d_1.jpg", "labels/d_1.txt"))
    assert list(found.refused.values()) == ["no classes.txt or data.yaml says what its classes are"]


def test_scan__kitti(tmp_path):
    source = folder(
        tmp_path / "kitti", "training/image_2/000000.png", "training/image_2/000001.png", "training/label_2/000000.txt",
        "000000", **{"000000": "Car 0 0 0 1 1 9 9"},
    )  # fmt: skip
    (source / "000000").unlink()
    _, candidates, ignored = looked(source)
    assert candidates["training/image_2/000000"].label.name == "000000.txt" and not ignored
    assert candidates["training/image_2/000001"].label is None


def test_scan__a_frames_own_file_before_a_table(tmp_path):
    source = folder(
        tmp_path / "a", "images/d_1.jpg", "labels/d_1.txt", "labels/classes.txt", "coco.json", classes="car",
        coco=table([{"id": 1, "file_name": "images/d_1.jpg"}]),
    )  # fmt: skip
    found = scan(source, OBSTACLES)
    assert found.candidates[0].label.name == "d_1.txt"
    assert found.ignored[source / "coco.json"] == "a second file of boxes for its frames"


def test_scan__recordings_and_damaged_tables(tmp_path):
    source = folder(
        tmp_path / "a", "north.mp4", "north.boxes.json", "south.boxes.json", "coco.json",
        north=table([{"id": 1, "frame": 3}]), coco="{",
    )  # fmt: skip
    found = scan(source, OBSTACLES)
    assert {c.label.name for c in found.candidates} == {"north.boxes.json"}
    assert found.ignored[source / "south.boxes.json"] == "boxes without their recording, or not for this recipe"
    assert found.refused[source / "coco.json"].startswith("not a COCO file")


def test_scan__boxes_are_nothing_to_other_heads(tmp_path):
    source = folder(tmp_path / "a", "images/d_1.jpg", "masks/d_1.png", "coco.json", "labels/d_1.txt")
    _, candidates, ignored = looked(source, RECIPES["road_scene"])
    assert candidates["images/d_1"].label.name == "d_1.png"
    assert set(ignored.values()) == {"boxes, which this recipe does not learn from"}


def test_left_out__nothing_to_say():
    from collections import Counter

    assert left_out(Counter(car=3, DontCare=2), ("vehicle",)) == []


@pytest.mark.real_data
def test_scan__camvid(real_driving):
    found = scan(real_driving / "camvid", OBSTACLES)
    assert len(found.candidates) == 468 and all(c.label for c in found.candidates)
    assert not found.refused and not found.notes and len({c.group for c in found.candidates}) == 3
