"""Layouts: what becomes an image, a label, or is ignored with why."""

import pytest

from domains.errors import UsageError
from domains.medical.layout import open_inputs, scan
from domains.medical.recipes import RECIPES

TUMOR, HIPPOCAMPUS = RECIPES["brain_tumor"], RECIPES["hippocampus"]


@pytest.fixture
def tree(tmp_path):
    """Makes a folder with empty files of the given names, and texts as .yaml files."""

    def make(*names, **texts):
        root = tmp_path / "source"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"")
        for name, text in texts.items():
            (root / f"{name}.yaml").write_text(text)
        return root

    return make


def shown(found, root):
    """name -> (group, image paths, label path), and ignored path -> why."""

    def short(path):
        return path.relative_to(root).as_posix() if path else None

    taken = {c.name: (c.group, {k: short(p) for k, p in c.images.items()}, short(c.label)) for c in found.candidates}
    return taken, {short(path): why for path, why in found.ignored.items()}


def accounted(found):
    used = [p for c in found.candidates for p in (*c.images.values(), *([c.label] if c.label else []))]
    return sorted([*used, *found.ignored])


def test_scan__folder_per_patient(tree):
    root = tree("p2/flair.nii.gz", "p1/flair.nii.gz", "p1/mask.nii.gz", "p1/t1pre.nii.gz", "p3/mask.nii.gz",
                "cases.csv", ".DS_Store", "p1/.hidden/flair.nii.gz")  # fmt: skip
    found = scan(root, TUMOR)
    taken, ignored = shown(found, root)
    assert taken == {
        "p1": ("p1", {"flair": "p1/flair.nii.gz"}, "p1/mask.nii.gz"),
        "p2": ("p2", {"flair": "p2/flair.nii.gz"}, None),
    }
    assert ignored == {
        ".DS_Store": "hidden",
        "cases.csv": "neither NIfTI nor DICOM (.csv)",
        "p1/.hidden/flair.nii.gz": "hidden",
        "p1/t1pre.nii.gz": "not a channel of the recipe (flair)",
        "p3/mask.nii.gz": "a label without its image",
    }
    assert found.namespace == "source" and list(taken) == sorted(taken)
    assert accounted(found) == sorted(p for p in root.rglob("*") if p.is_file())


def test_scan__visits_of_a_patient_share_a_group(tree):
    root = tree("train/p1/v1/flair.nii.gz", "train/p1/v2/flair.nii.gz", "test/p2/v1/flair.nii.gz")
    assert [c.group for c in scan(root, TUMOR).candidates] == ["p2", "p1", "p1"]


def test_scan__brats_names(tree):
    root = tree("BraTS-1/BraTS-1-t2f.nii.gz", "BraTS-1/BraTS-1-t1n.nii.gz", "BraTS-1/BraTS-1-seg.nii.gz")
    taken, _ = shown(scan(root, TUMOR), root)
    assert taken["BraTS-1"][1:] == ({"flair": "BraTS-1/BraTS-1-t2f.nii.gz"}, "BraTS-1/BraTS-1-seg.nii.gz")


def test_scan__missing_channel(tree):
    recipe = TUMOR.changed({"data.channels": "[flair, t1pre]"})
    root = tree("p1/t1pre.nii.gz", "p1/flair.nii.gz", "p2/flair.nii.gz", "p2/mask.nii.gz", "p3/t1.nii.gz")
    found = scan(root, recipe)
    taken, ignored = shown(found, root)
    assert {name: list(images) for name, (_, images, _) in taken.items()} == {"p1": ["flair", "t1pre"], "p2": ["flair"]}
    assert taken["p2"][2] == "p2/mask.nii.gz" and not found.absent
    assert ignored["p3/t1.nii.gz"] == "flair is missing beside it"


def test_scan__a_channel_that_nobody_has(tree):
    recipe = TUMOR.changed({"data.channels": "[flair, t9]"})
    assert scan(tree("p1/flair.nii.gz", "p1/t1.nii.gz"), recipe).absent == ["t9"]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("imagesTr/h_001.nii.gz", "labelsTr/h_001.nii.gz"),
        ("images/h_001.nii.gz", "labels/h_001.nii.gz"),
        ("imagesTr/h_001_0000.nii.gz", "labelsTr/h_001.nii.gz"),
    ],
)
def test_scan__decathlon_and_nnunet(tree, image, label):
    root = tree(image, label, "dataset.json", "imagesTs/h_002.nii.gz")
    taken, ignored = shown(scan(root, HIPPOCAMPUS), root)
    assert taken["h_001"] == ("h_001", {"image": image}, label) and taken["h_002"][2] is None
    assert ignored == {"dataset.json": "neither NIfTI nor DICOM (.json)"}


def test_scan__nnunet_channels(tree):
    recipe = TUMOR.changed({"data.channels": "[flair, t1]"})
    root = tree("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "imagesTr/a_0002.nii.gz")
    taken, ignored = shown(scan(root, recipe), root)
    assert taken["a"][1] == {"flair": "imagesTr/a_0000.nii.gz", "t1": "imagesTr/a_0001.nii.gz"}
    assert ignored == {"imagesTr/a_0002.nii.gz": "channel number 2 is not used by the recipe"}


def test_scan__flat(tree):
    root = tree("b.nii.gz", "a.nii", "a_mask.nii.gz", "sub-07_ses-1_T1w.nii.gz")
    taken, _ = shown(scan(root, HIPPOCAMPUS), root)
    assert taken["a"] == ("a", {"image": "a.nii"}, "a_mask.nii.gz") and taken["b"][2] is None
    assert taken["sub-07_ses-1_T1w"][0] == "sub-07"


def test_scan__dataset_yaml_wins(tree):
    text = """
namespace: hospital-a
licence: CC0
spacing: nominal
images: {flair: "img/{subject}-*.nii.gz"}
label: "seg/{subject}.nii.gz"
group: "(?P<group>P\\\\d+)"
classes: {tumor: [1, 2, 4]}
"""
    root = tree("img/P1_a-x.nii.gz", "img/P1_b-x.nii.gz", "img/Q-x.nii.gz", "seg/P1_a.nii.gz", "flair.nii.gz",
                dataset=text)  # fmt: skip
    found = scan(root, TUMOR)
    taken, ignored = shown(found, root)
    assert taken["P1_a"] == ("P1", {"flair": "img/P1_a-x.nii.gz"}, "seg/P1_a.nii.gz") and taken["P1_b"][0] == "P1"
    assert found.namespace == "hospital-a" and found.statement == "CC0"
    assert found.candidates[0].notes == {
        "spacing": "nominal",
        "may_be_empty": True,
        "classes": ("tumor",),
        "label_values": {1: 1, 2: 1, 4: 1},
    }
    assert ignored["img/Q-x.nii.gz"] == "the group pattern does not match"
    assert ignored["flair.nii.gz"] == "matches no pattern of dataset.yaml"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image: {}", "its keys are namespace"),
        ("spacing: maybe", "real"),
        ("images: {flair: flair.nii.gz}", "must contain {subject}"),
        ("group: '(P'", "not a regular expression"),
        ("group: 'P.*'", "named group"),
        ("classes: {lung: 1}", "class lung is not of the recipe"),
        ("images: {t1: '{subject}.nii'}", "no image pattern for channel flair"),
        ("a: [", "is not YAML"),
    ],
)
def test_scan__wrong_dataset_yaml(tree, text, reason):
    with pytest.raises(UsageError, match=reason):
        scan(tree("a.nii.gz", dataset=text), TUMOR)


def test_scan__no_folder(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        scan(tmp_path / "absent", TUMOR)


def test_open_inputs__a_file(tree):
    root = tree("p1/flair.nii.gz", "p1/mask.nii.gz", "p2/flair.nii.gz")
    (single,) = open_inputs(root / "p2" / "flair.nii.gz", TUMOR)
    assert single.images["flair"].name == "flair.nii.gz"
    both = TUMOR.changed({"data.channels": "[flair, t1]"})
    assert list(open_inputs(root / "p2" / "flair.nii.gz", both)[0].images) == ["flair"]
    with pytest.raises(UsageError, match="give the patient's folder"):
        open_inputs(root / "p1" / "mask.nii.gz", both)
    with pytest.raises(UsageError, match="no file"):
        open_inputs(root / "nothing", TUMOR)
