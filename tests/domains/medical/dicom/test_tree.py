"""A tree of DICOM files: every one has a verdict, channels are found by what the scanner did, names stay outside."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pydicom
import pytest
from dicom_files import FLAIR, NAMES, T1, blob, instance, plant, position, write_series

from domains.domain import find_recipe
from domains.medical.dicom.instance import Instance, looks_like_dicom
from domains.medical.dicom.sequences import kind_of
from domains.medical.dicom.tree import Tree, grow
from domains.medical.layout import scan
from pipelines.ingest import ingest


def all_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def grown(folder: Path, *channels: str) -> Tree:
    tree = grow(all_of(folder), channels)
    taken = [path for candidate in tree.candidates for path in candidate.images.values()]
    assert sorted([*taken, *tree.ignored, *tree.refused]) == all_of(folder)
    return tree


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        (FLAIR, "flair"),
        (T1, "t1"),
        (T1 | {"ContrastBolusAgent": "yes"}, "t1post"),
        (T1 | {"SeriesDescription": "AX T1 POST GAD"}, "t1post"),
        ({"ScanningSequence": "SE", "RepetitionTime": 4000, "EchoTime": 100}, "t2"),
        ({"ScanningSequence": "SE", "RepetitionTime": 3000, "EchoTime": 20}, "pd"),
        ({"ScanningSequence": ["GR", "IR"], "RepetitionTime": 2300, "EchoTime": 3, "InversionTime": 900}, "t1"),
        ({"ScanningSequence": "GR", "RepetitionTime": 30, "EchoTime": 20}, "t2star"),
        ({"ScanningSequence": ["SE", "IR"], "RepetitionTime": 5000, "EchoTime": 30, "InversionTime": 160}, "stir"),
        ({"ScanningSequence": "EP", "RepetitionTime": 5000, "EchoTime": 90, "DiffusionBValue": 1000.0}, "dwi"),
        ({"ScanningSequence": ["EP", "GR"], "RepetitionTime": 2000, "EchoTime": 30}, "epi"),
        ({"AcquisitionContrast": "T2"}, "t2"),
        ({"SeriesDescription": "sag_FLAIR_3D"}, "flair"),
        ({"SeriesDescription": "whatever"}, None),
        ({"Modality": "CT"}, "ct"),
    ],
)
def test_kind_of(tags: dict, kind: str | None) -> None:
    header = pydicom.Dataset()
    for name, value in ({"Modality": "MR"} | tags).items():
        setattr(header, name, value)
    assert kind_of(Instance(Path("x"), header)) == kind


def test_grow__the_series_of_a_study_are_one_subject__the_first_channel_must_be_there(tmp_path: Path) -> None:
    write_series(tmp_path / "x", SeriesInstanceUID="1.1", **T1)
    write_series(tmp_path / "y", SeriesInstanceUID="1.2")
    write_series(tmp_path / "z", PatientID="other", StudyInstanceUID="2", SeriesInstanceUID="2.1")
    alone, both = grown(tmp_path, "flair", "t1").candidates
    assert both.group == "patient" and [*both.images][::8] == ["flair/0000", "t1/0000"]
    assert alone.group == "other" and [*alone.images][::8] == ["flair/0000"]
    assert [*grown(tmp_path, "flair", "t1pre").candidates[1].images][::8] == ["flair/0000", "t1pre/0000"]
    assert [c.group for c in grown(tmp_path, "t1", "flair").candidates] == ["patient"]
    assert set(grown(tmp_path, "t1", "flair").ignored.values()) == {"no t1 series in its study"}
    assert [c.group for c in grown(tmp_path, "flair").candidates] == ["other", "patient"]
    assert len(grown(tmp_path, "image").candidates) == 3  # any series, each by itself


def test_grow__another_frame_of_reference_is_another_place(tmp_path: Path) -> None:
    write_series(tmp_path / "flair", SeriesInstanceUID="1.1", FrameOfReferenceUID="9.1")
    write_series(tmp_path / "moved", blob(9), SeriesInstanceUID="1.2", FrameOfReferenceUID="9.2", **T1)
    [alone] = grown(tmp_path, "flair", "t1").candidates
    assert len(alone.images) == 8
    reasons = set(grown(tmp_path, "flair", "t1").ignored.values())
    assert reasons == {"another frame of reference than the flair series of its study: not registered"}
    write_series(tmp_path / "fits", SeriesInstanceUID="1.3", FrameOfReferenceUID="9.1", **T1)
    [both] = grown(tmp_path, "flair", "t1").candidates
    assert {path.parent.name for path in both.images.values()} == {"flair", "fits"}


def test_grow__a_reason_for_everything_else(tmp_path: Path) -> None:
    write_series(tmp_path / "good")
    first = instance(blob()[0], 1, position(0))
    first.save_as(tmp_path / "twice_a.dcm")
    first.save_as(tmp_path / "twice_b.dcm")
    odd = {
        "derived": {"ImageType": ["DERIVED", "SECONDARY"]},
        "localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "burned": {"BurnedInAnnotation": "YES"},
        "capture": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        "ultrasound": {"Modality": "US"},
        "report": {"Modality": "SR", "Rows": None},
    }
    for name, tags in odd.items():
        instance(blob()[0], 1, position(0), **tags).save_as(tmp_path / f"{name}.dcm")
    (tmp_path / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"nonsense" * 9)
    write_series(tmp_path / "small", blob(6, 16, 16), StudyInstanceUID="3", SeriesInstanceUID="3.1")
    tree = grown(tmp_path, "flair")
    said = {path.stem: reason for path, reason in (tree.ignored | tree.refused).items()}
    assert said["derived"].startswith("derived from other images") and said["localizer"] == "a localizer"
    assert said["capture"].startswith("a secondary capture") and said["ultrasound"].startswith("an ultrasound")
    assert said["report"] == "a report, no image"
    assert said["twice_b"] == "the same instance as another file"
    assert {path.stem for path in tree.refused} == {"burned", "damaged"}
    assert "may name the patient" in said["burned"]


def test_grow__an_id_that_would_lead_out_of_the_folder_of_results(tmp_path: Path) -> None:
    write_series(tmp_path, PatientID="../../etc/x")
    [one] = grown(tmp_path, "flair").candidates
    assert one.name == "_.._etc_x/1.2.3.1" and one.group == "../../etc/x"


def test_grow__series_ids_that_two_patients_share(tmp_path: Path) -> None:
    for patient in ("a", "b"):
        write_series(tmp_path / patient, PatientID=patient)
    assert [c.group for c in grown(tmp_path, "flair").candidates] == ["a", "b"]


def test_grow__three_directions_are_a_localizer(tmp_path: Path) -> None:
    for number, directions in enumerate(([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])):
        instance(blob()[0], number, position(number), ImageOrientationPatient=directions).save_as(
            tmp_path / f"{number}.dcm"
        )
    assert set(grown(tmp_path, "flair").ignored.values()) == {
        "slices in several directions: a localizer, not one volume"
    }


def test_scan__dataset_yaml_names_derived_images(tmp_path: Path) -> None:
    write_series(tmp_path / "p1", ImageType=["DERIVED", "SECONDARY"], **{name: None for name in FLAIR})
    recipe = find_recipe("brain_tumor")[1]
    assert not scan(tmp_path, recipe).candidates
    (tmp_path / "dataset.yaml").write_text('images: {flair: "{subject}/*.dcm"}\nspacing: nominal\n')
    [one] = scan(tmp_path, recipe).candidates
    assert len(one.images) == 8 and one.notes["spacing"] == "nominal"


def test_scan__the_patient_is_the_group_unless_dataset_yaml_says_otherwise(tmp_path: Path) -> None:
    for study in ("1", "2"):
        write_series(tmp_path / study, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1")
    recipe = find_recipe("brain_tumor")[1]
    assert [c.group for c in scan(tmp_path, recipe).candidates] == ["patient", "patient"]
    (tmp_path / "dataset.yaml").write_text('group: "/(?P<group>1)$"\n')
    found = scan(tmp_path, recipe)
    assert [c.group for c in found.candidates] == ["1"]
    assert list(found.ignored.values()).count("the group pattern does not match") == 8


def test_looks_like_dicom(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    bare, text = tmp_path / "IM0001", tmp_path / "notes.txt"
    bare.write_bytes(paths[0].read_bytes())
    text.write_text("not an image" * 20)
    assert looks_like_dicom(bare) and looks_like_dicom(paths[0]) and not looks_like_dicom(text)


def test_ingest__planted_names_stay_outside(tmp_path: Path) -> None:
    source, home = tmp_path / "export", tmp_path / "home"
    plant(write_series(source / "DOE^JANE" / "Jane Doe", blob(8, 40, 40)))
    recipe = find_recipe("brain_tumor")[1]
    done = ingest(source, recipe, home)
    assert done.counts["accepted"] == 8
    everything = b"".join(path.read_bytes() for path in all_of(home)) + str(all_of(home)).encode()
    for name in NAMES:
        assert name.encode() not in everything, name
    assert "DOE" not in json.dumps(done.counts)


@pytest.mark.real_data
def test_grow__real_files_each_with_a_verdict(real_data: Path) -> None:
    files = [path for path in all_of(real_data / "medical/dicom") if looks_like_dicom(path)]
    tree = grow(files, ["flair", "t1post"])
    [both] = tree.candidates
    assert both.group == "PGBM-003" and len(both.images) == 44
    assert len(files) == 256 == 44 + len(tree.ignored) + len(tree.refused)
    reasons = Counter((tree.ignored | tree.refused).values())
    assert reasons["derived from other images; dataset.yaml can name it as an image"] == 116
    assert reasons["a later volume of its series (time, echo or b value); the first is taken"] == 48
    assert reasons["a secondary capture: a picture of a screen or of paper"] == 3
    assert len(tree.refused) == 5
    volumes = grow(files, ["image"]).candidates  # whatever the sequence
    assert Counter(len(c.images) for c in volumes) == {1: 9, 15: 1, 22: 2}
