"""One volume saved again - rescaled, noisy, in fewer grey levels - is found; other heads, and other scans, are not."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from domains.domain import find_recipe, load
from domains.errors import RecipeError
from domains.manifest import Manifest, Subject
from domains.recipe import Recipe
from domains.splits import split
from domains.store import Store
from pipelines import duplicates
from pipelines.dataset import open_dataset
from pipelines.duplicates import ALIKE, Pair, alike, fine_structure, near_duplicates, without_near_duplicates
from pipelines.ingest import ingest
from pipelines.models import open_model
from pipelines.pretrain import pretrain, pretrain_key

PLANTED = 3


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, few_steps: Recipe) -> tuple[Path, Manifest]:
    """Nine generated heads, three of which are there again under another patient's name."""
    folder = tmp_path_factory.mktemp("planted")
    generate = load("medical").generate
    assert generate is not None
    generate(folder / "raw", 9, 3)
    images = sorted(path for path in (folder / "raw").rglob("*flair.nii.gz"))
    for number, path in enumerate(images[:PLANTED]):
        image = nibabel.load(path)
        values = np.asarray(image.dataobj, dtype=np.float32)
        noise = np.random.default_rng(number).normal(size=values.shape)
        again = [values * 1.1 + 30, values + 0.03 * np.ptp(values) * noise, np.round(values / np.ptp(values) * 100)][
            number
        ]
        copy = folder / "raw" / f"again_{number}" / "flair.nii.gz"
        copy.parent.mkdir()
        nibabel.save(nibabel.Nifti1Image(again.astype(np.float32), image.affine), copy)
    ingest(folder / "raw", few_steps, folder / "home")
    return folder / "home", open_dataset(few_steps, folder / "home")[0]


def test_near_duplicates__the_planted_ones_and_no_other(planted: tuple[Path, Manifest]) -> None:
    home, manifest = planted
    pairs = near_duplicates(Store(home), load("medical"), manifest.subjects)
    assert len(pairs) == PLANTED and all(len(set(pair.groups)) == 2 for pair in pairs)
    assert all(pair.correlation >= 0.97 for pair in pairs), "far from the limit"
    assert len({subject for pair in pairs for subject in pair.subjects}) == 2 * PLANTED
    with Store.only_looking():
        assert near_duplicates(Store(home), load("medical"), manifest.subjects) == pairs


def test_pretrain__reports_them_and_leaves_them_out_when_asked(
    planted: tuple[Path, Manifest], few_steps: Recipe
) -> None:
    home, manifest = planted
    few_steps = few_steps.changed({"objective": "mae", "pretrain.steps": "1"})
    asked = few_steps.changed({"pretrain.drop_near_duplicates": "true"})
    parts = split(manifest.subjects)
    assert pretrain_key(Store(home), few_steps, manifest.contract, parts.development) == pretrain_key(
        Store(home), asked, manifest.contract, parts.development
    )
    plain, fewer = (open_model(pretrain(recipe, home).folder).info["lineage"] for recipe in (few_steps, asked))
    concerned = [pair for pair in plain["near_duplicates"]["pairs"]]
    assert concerned == fewer["near_duplicates"]["pairs"] and 0 < len(concerned) <= PLANTED
    assert (plain["near_duplicates"]["dropped"], fewer["near_duplicates"]["dropped"]) == (False, True)
    gone = set(plain["pretrain_groups"]) - set(fewer["pretrain_groups"])
    assert len(gone) == len(concerned)
    held_out = {s.subject_id for s in parts.test}
    left = {s.subject_id for s in parts.development if s.group_id in fewer["pretrain_groups"]}
    assert all(len(set(pair["subjects"]) & (left | held_out)) == 1 for pair in concerned)


def test_without_near_duplicates__chains_and_held_out_ones() -> None:
    def one(name: str) -> Subject:
        return Subject(subject_id=name, group_id=name, split_bucket=0, entry="", content_digest=name, facts={})

    def pair(a: str, b: str) -> Pair:
        return Pair((a, b), (a, b), 0.95)

    subjects = [one(name) for name in "abcd"]
    left = without_near_duplicates(subjects, [pair("a", "b"), pair("b", "c"), pair("t", "d")], [one("t")])
    assert [subject.subject_id for subject in left] == ["a", "c"]


def test_fine_structure__what_all_share_does_not_correlate() -> None:
    draw = np.random.default_rng(0)
    anatomy = np.add.outer(np.linspace(0, 9, 16), np.linspace(0, 9, 256)).reshape(1, 16, 16, 16)
    own = draw.normal(size=(6, 1, 16, 16, 16)) * 0.5
    rows = fine_structure(anatomy + own)
    alike = rows @ rows.T
    assert np.allclose(alike.diagonal(), 1, atol=1e-5)
    assert abs(alike - np.eye(6)).max() < ALIKE / 2
    assert fine_structure(np.ones((2, 1, 1, 64, 64))).any() == 0


@pytest.mark.parametrize("varied", [24, 256], ids=["the bound tells most apart", "the bound tells nothing"])
def test_alike__those_of_a_product_of_all(varied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in {"ROWS": 64, "SHADOW": 16}.items():
        monkeypatch.setattr(duplicates, name, small)
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(300, varied)) @ np.linalg.qr(draw.normal(size=(256, varied)))[0].T
    for i in range(40):  # some of them above the limit, some below
        rows[100 + 3 * i] = rows[i] + draw.normal(size=256) * 0.02 * i * np.linalg.norm(rows[i]) / 16
    rows[299] = 0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-9)
    products = np.triu(rows @ rows.T, k=1)
    expected = {(int(i), int(j)): products[i, j] for i, j in np.argwhere(products >= ALIKE)}
    found = alike(rows.astype(np.float32))
    assert 10 < len(expected) < 60 and {(i, j) for i, j, _ in found} == expected.keys() and len(found) == len(expected)
    assert all(abs(expected[i, j] - product) < 1e-6 for i, j, product in found)


def test_near_duplicates__a_domain_without_a_glance__says_so(tmp_path: Path) -> None:
    from dataclasses import replace

    blind = replace(load("medical"), glance=None)
    with pytest.raises(RecipeError, match="no glance"):
        near_duplicates(Store(tmp_path), blind, ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder"),
    [("hippocampus", "hippocampus_mri"), ("brain_tumor", "brain_mri_lgg"), ("chest_xray", "chest_xray_nih")],
)
@pytest.mark.real_data
def test_near_duplicates__real_patients_are_none(real_data: Path, tmp_path: Path, name: str, folder: str) -> None:
    recipe = find_recipe(name)[1]
    ingest(real_data / "medical" / folder, recipe, tmp_path)
    manifest, _ = open_dataset(recipe, tmp_path)
    assert near_duplicates(Store(tmp_path), load("medical"), manifest.subjects) == []
