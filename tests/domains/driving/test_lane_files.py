"""Every file of lanes finds its frames or a reason; frames that are not there are named to the person."""

import json
from pathlib import Path

import numpy as np
import pytest
from driving_files import read_all
from PIL import Image

from domains.driving.layout import scan
from domains.driving.recipes import RECIPES
from domains.driving.shapes import judged_shapes

LANES = RECIPES["dashcam_lanes"]
LINE = {"lanes": [[10, 12, 14]], "h_samples": [10, 20, 30]}


def folder(source: Path, *names: str) -> Path:
    for name in names:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.fromarray(np.full((36, 64, 3), len(name) + sum(map(ord, name)) % 100, np.uint8)).save(path)
        else:
            path.write_text("")
    return source


def looked(source, recipe=LANES):
    """Scan and the candidates by name; every file has exactly one place."""
    found = scan(source, recipe)
    taken = {p for c in found.candidates for p in (*c.images.values(), c.label) if p is not None}
    files = {p for p in source.rglob("*") if p.is_file()}
    assert taken | set(found.ignored) | set(found.refused) == files and not taken & set(found.ignored)
    return found, {c.name: c for c in found.candidates}


def test_scan__tusimple(tmp_path):
    source = folder(tmp_path / "t", "clips/0313-1/60/20.jpg", "clips/0313-1/900/20.jpg", "clips/0531/5/20.jpg")
    said = [
        {**LINE, "raw_file": name} for name in ("clips/0313-1/60/20.jpg", "clips/0531/5/20.jpg", "clips/x/1/20.jpg")
    ]
    (source / "label_data_0313.json").write_text("\n".join(map(json.dumps, said)))
    found, named = looked(source)
    label = source / "label_data_0313.json"
    assert {n: c.label for n, c in named.items()} == {
        "clips/0313-1/60/20": label, "clips/0313-1/900/20": None, "clips/0531/5/20": label,
    }  # fmt: skip
    assert [c.group for c in named.values()] == ["0313-1", "0313-1", "0531"]
    assert named["clips/0313-1/900/20"].notes["seconds"] == (46.0,)
    assert found.refused == {label: "lanes of 1 frames that are not there"}
    assert found.alike == {label: ["clips/x/1/20.jpg"]}
    first = named["clips/0313-1/60/20"]
    read = read_all([first], LANES, tmp_path / "store")
    assert judged_shapes(read.labels[0]).on(0)[0].points.tolist() == [[10, 10], [12, 20], [14, 30]]


def test_scan__tusimple_lines_that_are_none(tmp_path):
    source = folder(tmp_path / "t", "a.jpg")
    for text, why in (("{", "line 2"), (json.dumps({"raw_file": "a.jpg", **LINE, "lanes": [[1]]}), "number of points")):
        (source / "label_data.json").write_text("\n" + text)
        found, named = looked(source)
        assert named["a"].label is None and why in found.refused[source / "label_data.json"]


def test_scan__culane_masks_and_sequences(tmp_path):
    source = folder(
        tmp_path / "c", "driver_1/00000.jpg", "driver_1/00030.jpg", "driver_1/00000.lines.txt", "driver_1/9.lines.txt",
        "images/m_1.png", "masks/m_1.png", "seq/d_03.png", "seq/d_09.png", "seq/d.lanes.jsonl", "v.mp4",
        "v.lanes.jsonl", "w.lanes.jsonl",
    )  # fmt: skip
    found, named = looked(source)
    assert named["driver_1/00000"].label.name == "00000.lines.txt" and named["driver_1/00030"].label is None
    assert named["images/m_1"].notes["label_kind"] == "lane_mask" and named["images/m_1"].label.name == "m_1.png"
    assert [named[f"seq/d_0{n}"].notes["frame"] for n in (3, 9)] == [0, 1]
    assert named["seq/d_03"].label == named["seq/d_09"].label and named["v"].label.name == "v.lanes.jsonl"
    left = {p.name for p, why in found.ignored.items() if "not here" in why}
    assert left == {"9.lines.txt", "w.lanes.jsonl"}
    (source / "classes.txt").write_text("0 Sky\n1 Road\n")
    found, named = looked(source)
    assert named["images/m_1"].label is None and "none of them a lane" in found.ignored[source / "masks" / "m_1.png"]


def test_scan__clips_of_a_sequence_whose_last_frame_is_labelled(tmp_path):
    names = [f"clips/0313/7/{n}.jpg" for n in range(1, 21)]
    source = folder(tmp_path / "t", *names)
    (source / "label_data.json").write_text(json.dumps({**LINE, "raw_file": names[-1]}))
    recipe = LANES.changed({"data.clip_frames": "8"})
    [clip] = looked(source, recipe)[0].candidates
    assert clip.notes["lanes"].keys() == {19} and len(clip.images) == 20
    read = read_all([clip], recipe, tmp_path / "store")
    assert judged_shapes(read.labels[0]).labelled.tolist() == [19]


def test_scan__real_lanes(real_driving):
    still = scan(real_driving / "tusimple_lanes", LANES).candidates
    assert len(still) == 10 and all(c.label for c in still) and {c.group for c in still} == {"0313-1", "0313-2"}
    found = scan(real_driving / "highway_lanes", LANES).candidates
    assert sum(c.label is not None for c in found) == 5 and sum("frame" in c.images for c in found) == 6
    assert len({c.group for c in found}) == 2  # the stills are from its recordings


@pytest.mark.parametrize("recipe", ["road_scene"])
def test_scan__other_recipes_leave_lanes(tmp_path, recipe):
    source = folder(tmp_path / "t", "a.jpg", "a.lines.txt", "label_data.json")
    found, _ = looked(source, RECIPES[recipe])
    assert sum("does not learn" in why for why in found.ignored.values()) == 2
