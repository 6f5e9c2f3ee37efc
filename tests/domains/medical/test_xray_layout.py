"""Images with a table: every file and every row has its place, whatever spreadsheet wrote the table."""

from pathlib import Path

import pytest
from xray_files import write_rows

from domains.errors import UsageError
from domains.medical.recipes import RECIPES
from domains.medical.xray_layout import open_inputs, scan
from domains.medical.xray_table import age_band, read_table

RECIPE = RECIPES["chest_xray"]
ROW = {"image": "a.png", "finding_labels": "Pneumonia|Edema", "patient_id": "7", "age": "58", "sex": "F", "view": "AP"}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "source"
    for name in ("images/a.png", "images/b.jpg", "images/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def row(**changes):
    return ROW | changes


def by_name(found):
    return {Path(candidate.name).name: candidate for candidate in found.candidates}


def test_scan__rows_become_groups_facts_and_labels(folder):
    table = write_rows(folder, [row(), row(image="b.jpg", finding_labels="No Finding", patient_id="8", view="PA")])
    found = by_name(scan(folder, RECIPE))
    assert set(found) == {"a", "b"} and (found["a"].group, found["b"].group) == ("7", "8")
    assert found["a"].notes["findings"] == {"pneumonia": "1"} and found["b"].notes["findings"] == {"pneumonia": "0"}
    assert found["a"].notes["facts"] == {"sex": "F", "age_band": "50-59", "view": "AP"}
    assert {candidate.label for candidate in found.values()} == {table}
    assert "7" not in str(found["a"].notes) and "58" not in str(found["a"].notes)


def test_scan__every_file_and_row_is_accounted_for(folder):
    (folder / "notes.txt").write_text("x")
    (folder / "boxes.csv").write_text("image,label,x,y,w,h\na.png,Mass,1,2,3,4\n")
    (folder / "other.csv").write_text("a,b\n1,2\n")
    rows = [row(), row(), row(image="gone.png"), row(image="c.png"), row(image="c.png", age="9")]
    table = write_rows(folder, rows)
    found = scan(folder, RECIPE)
    said = {path.name: why for path, why in found.ignored.items()}
    assert set(by_name(found)) == {"a"}
    assert said["b.jpg"] == "no row in the table names it alone" and said["c.png"] == "its rows contradict each other"
    assert said["boxes.csv"].startswith("boxes") and "image" in said["other.csv"] and ".txt" in said["notes.txt"]
    assert said[table.name].startswith("1 of 5 rows name no file here; 1 rows repeat an earlier one; 1 images")
    taken = {path for c in found.candidates for path in (*c.images.values(), c.label)}
    assert taken | set(found.ignored) == {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_read_table__as_spreadsheets_write_it(folder, delimiter, encoding):
    names = {"image": "Image Index", "finding_labels": "Finding Labels", "patient_id": "Patient ID",
             "age": "Patient Age", "sex": "Patient Gender", "view": "View Position"}  # fmt: skip
    file = write_rows(folder, [{names[key]: value for key, value in row(age="058Y").items()}], delimiter=delimiter)
    file.write_text(file.read_text(), encoding=encoding)
    table = read_table(file)
    found = table.rows["a.png"]
    assert found.patient == "7" and dict(found.facts) == {"sex": "F", "age_band": "50-59", "view": "AP"}
    assert table.cells(found, "edema") == "1" and table.cells(found, "never_heard_of") == ""


def test_read_table__a_column_for_each_finding(folder):
    rows = [
        {"image": f"{i}.png", "patient": i, "Pneumonia": v, "Edema": 0} for i, v in enumerate(("1.0", "0", "-1", ""))
    ]
    table = read_table(write_rows(folder, rows))
    assert [table.cells(table.rows[f"{i}.png"], "pneumonia") for i in range(4)] == ["1.0", "0", "-1", ""]


def test_scan__a_finding_the_table_never_mentions_is_unknown_not_absent(folder):
    write_rows(folder, [row()])
    found = scan(folder, RECIPE.changed({"data.label_classes": "[hernia]"}))
    assert by_name(found)["a"].label is None
    assert found.ignored[folder / "labels.csv"] == "it knows nothing of hernia"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"image": "a.png", "finding_labels": "x"}], "no column for the patient"),
        ([{"image": "a.png", "Age": 1, "age ": 2, "patient": 3}], "twice"),
    ],
)
def test_scan__a_table_that_cannot_be_used(folder, rows, reason):
    write_rows(folder, rows)
    with pytest.raises(UsageError, match=reason):
        scan(folder, RECIPE)


def test_scan__not_utf8(folder):
    (folder / "labels.csv").write_bytes("image,patient\na.png,Müller\n".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        scan(folder, RECIPE)


def test_scan__a_row_without_patient_is_left_out(folder):
    write_rows(folder, [row(patient_id="")])
    assert scan(folder, RECIPE).ignored[folder / "images" / "a.png"] == "its patient is not known"


def test_scan__without_a_table_folders_are_patients(folder):
    (folder / "p1").mkdir()
    (folder / "p1" / "x.png").write_bytes(b"")
    (folder / "p1" / "y.png").write_bytes(b"")
    found = by_name(scan(folder, RECIPE))
    assert found["x"].group == found["y"].group == "p1" and found["a"].group != found["b"].group
    assert all(candidate.label is None for candidate in found.values())


def test_scan__two_files_of_one_name_and_one_row(folder):
    (folder / "old").mkdir()
    (folder / "old" / "a.png").write_bytes(b"")
    write_rows(folder, [row()])
    assert not scan(folder, RECIPE).candidates
    write_rows(folder, [row(image="old/a.png")])
    assert [c.images["xray"] for c in scan(folder, RECIPE).candidates] == [folder / "old" / "a.png"]


def test_open_inputs__a_file(folder):
    write_rows(folder, [row()])
    (one,) = open_inputs(folder / "images" / "a.png", RECIPE)
    assert one.images == {"xray": folder / "images" / "a.png"} and list(one.notes["findings"]) == ["pneumonia"]
    for missing in (open_inputs, scan):
        with pytest.raises(UsageError, match="no f"):
            missing(folder / "absent", RECIPE)


@pytest.mark.parametrize(
    ("text", "band"),
    [("58", "50-59"), ("058Y", "50-59"), ("0", "0-9"), ("94", "90+"), ("413", None), ("6M", None), ("", None)],
)
def test_age_band(text, band):
    assert age_band(text) == band
