"""Every file gets a place; drives and seconds come from names; equal drives of two splits stay one drive."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.driving.layout import open_inputs, scan
from domains.driving.recipes import RECIPES
from domains.errors import UsageError

FRAMES, CLIPS = RECIPES["road_scene"], RECIPES["dashcam_lanes"].changed({"data.clip_frames": "8"})


def folder(tmp_path: Path, *names: str, **content: str) -> Path:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.get(path.stem, ""))
    return tmp_path


def everything(source: Path, recipe) -> tuple[dict[str, object], dict[str, str]]:
    found = scan(source, recipe)
    taken = [p for c in found.candidates for p in (*c.images.values(), c.label) if p is not None]
    files = [p for p in source.rglob("*") if p.is_file()]
    assert sorted([*taken, *found.ignored]) == sorted(files) and all(found.ignored.values())
    return {c.name: c for c in found.candidates}, {p.name: why for p, why in found.ignored.items()}


def test_scan__camvid_frames_with_masks(tmp_path):
    source = folder(
        tmp_path / "camvid" / "train", "images/0001TP_006690.jpg", "masks/0001TP_006690.png",
        "images/0006R0_f00930.jpg", "masks/0001TP_000001.png", "boxes.json", ".hidden.png",
    )  # fmt: skip
    (tmp_path / "camvid" / "classes.txt").write_text("0 Sky\n1 Road\n9 Car\n3 Unlabelled\n")
    found, ignored = everything(source, FRAMES)
    first, second = found["train/images/0001TP_006690"], found["train/images/0006R0_f00930"]
    assert (first.group, second.group) == ("0001TP", "0006R0") and first.notes["seconds"] == (223.0,)
    assert first.label.name == "0001TP_006690.png" and second.label is None
    assert first.notes["label_values"] == {0: 0, 1: 3, 9: 8}
    assert ignored == {
        "0001TP_000001.png": "a mask without its frame",
        "boxes.json": "not a frame, a recording or a label known here (.json)",
        ".hidden.png": "hidden",
    }


def test_scan__both_splits_of_a_source_share_their_drives(tmp_path):
    for split in ("train", "val"):
        folder(tmp_path / "camvid" / split, "images/0016E5_000030.jpg")
    train, val = (scan(tmp_path / "camvid" / split, FRAMES) for split in ("train", "val"))
    assert train.namespace == val.namespace == "camvid"
    assert train.candidates[0].group == val.candidates[0].group
    assert train.candidates[0].name != val.candidates[0].name


def test_scan__recordings_of_both_kinds(tmp_path):
    source = folder(
        tmp_path / "archive", "a.mp4", "a.lanes.jsonl", "b.MOV", "kitti/frames/0000000000.jpg",
        "kitti/frames/0000000001.jpg", "slow_1fps/7.png", "slow_1fps/9.png", "drive_0001.png", "still-one.jpg",
        "masks/x_1.png", "c.lanes.jsonl", "notes.txt",
    )  # fmt: skip
    found, ignored = everything(source, CLIPS)
    assert set(found) == {"a", "b", "kitti/frames/kitti", "slow_1fps/slow_1fps"}
    assert found["a"].label.name == "a.lanes.jsonl" and found["b"].label is None
    assert found["kitti/frames/kitti"].notes["seconds"] == (0.0, 0.1)
    assert found["slow_1fps/slow_1fps"].notes["seconds"] == (7.0, 9.0)
    assert set(ignored) == {"drive_0001.png", "still-one.jpg", "x_1.png", "c.lanes.jsonl", "notes.txt"}


def test_scan__frames_keep_the_order_of_their_numbers(tmp_path):
    source = folder(tmp_path / "a", *(f"drive_{n}.png" for n in (100, 9, 30, 2)), "drive_9.jpg")
    found, ignored = everything(source, CLIPS)
    assert [p.stem for p in found["drive"].images.values()] == ["drive_2", "drive_9", "drive_30", "drive_100"]
    assert len(ignored) == 1 and "second file" in next(iter(ignored.values()))


def test_scan__dataset_yaml_names_drives_and_rate(tmp_path):
    source = folder(tmp_path / "a", "north_cam_1.png", "north_rear_1.png", "lost_1.png", "dataset.yaml")
    (source / "dataset.yaml").write_text('group: "^(?P<group>[a-z]+)_(cam|rear)"\nframes_per_second: 5\nnamespace: n\n')
    found, ignored = everything(source, FRAMES)
    assert {c.group for c in found.values()} == {"north"} and ignored[
        "lost_1.png"
    ] == "the group pattern does not match"
    assert found["north_cam_1"].notes["seconds"] == (0.2,) and scan(source, FRAMES).namespace == "n"
    (source / "dataset.yaml").write_text("grup: x\n")
    with pytest.raises(UsageError, match="its keys are"):
        scan(source, FRAMES)


def test_open_inputs__a_frame_is_no_recording(tmp_path):
    source = folder(tmp_path, "a.png", "b.mp4")
    assert [c.name for c in open_inputs(source / "a.png", FRAMES)] == ["a"]
    for recipe in (FRAMES, CLIPS):  # a model of single frames sees each frame of a recording
        assert [c.name for c in open_inputs(source / "b.mp4", recipe)] == ["b"]
    for path, recipe in ((source / "a.png", CLIPS), (source / "none", FRAMES)):
        with pytest.raises(UsageError):
            open_inputs(path, recipe)


def test_scan__real_layouts(real_driving):
    found = scan(real_driving / "camvid" / "train", FRAMES)
    assert len(found.candidates) == 367 and all(c.label for c in found.candidates)
    assert {c.group for c in found.candidates} == {"0001TP", "0006R0", "0016E5"}
    kitti = scan(real_driving / "kitti_sequence", CLIPS).candidates
    assert sum(len(part.images) for part in kitti) == 78 and len(kitti) == 5
    assert kitti[-1].notes["seconds"][-1] == pytest.approx(7.7)


def test_scan__videos_are_for_recipes_of_frames_too(tmp_path):
    source = folder(tmp_path / "a", "x.mp4", "x.mov", "x_1.png", "x.png")
    found, ignored = everything(source, FRAMES)
    assert {"x", "x.mov", "x.mp4", "x_1"} == set(found) and not ignored
    assert found["x.mov"].group == found["x.mp4"].group == "x"


def test_scan__two_drives_with_one_name_are_kept_apart_and_said(tmp_path):
    source = folder(
        tmp_path / "a", "monday/0001.mp4", "tuesday/0001.mp4", "tuesday/0002.mp4", "train/9.mp4", "val/9.mp4"
    )
    found, _ = everything(source, CLIPS)
    assert {name: c.group for name, c in found.items()} == {
        "monday/0001": "monday/0001", "tuesday/0001": "tuesday/0001", "tuesday/0002": "0002",
        "train/9": "9", "val/9": "9",
    }  # fmt: skip
    assert "2 recordings in several folders share their names" in scan(source, CLIPS).layout
