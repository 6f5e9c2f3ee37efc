"""drift on generated heads: others of the kind are no alarm, disturbed ones are, and the dataset stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from domains.domain import find_recipe
from domains.errors import ContractMismatch, NothingUsable, UsageError
from domains.manifest import read_manifest
from domains.recipe import Recipe
from domains.store import Store
from pipelines import embed
from pipelines.dataset import dataset_file, find_dataset
from pipelines.drift import drift
from pipelines.ingest import ingest, take_in


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    folder = tmp_path_factory.mktemp("home")
    ingest(archive, find_recipe("brain_tumor")[1], folder)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four other heads of the same scanner."""
    domain, _ = find_recipe("brain_tumor")
    assert domain.generate is not None
    folder = tmp_path_factory.mktemp("others") / "other_heads"
    domain.generate(folder, 4, 77)
    return folder


@pytest.fixture(autouse=True)
def two_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("embed", "drift_figures"):
        monkeypatch.setattr(f"pipelines.{module}.CROPS", 2)
    assert embed.CROPS == 2


def changed(source: Path, target: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy of a source whose images went through `change`."""
    shutil.copytree(source, target)
    for file in target.rglob("flair.nii.gz"):
        image = nib.load(file)
        values = change(np.asarray(image.dataobj, dtype=np.float32))
        nib.save(nib.Nifti1Image(values.astype(np.int16), image.affine), file)
    return target


def test_drift__same_distribution_is_no_alarm_and_nothing_joins_the_dataset(home: Path, quick: Recipe, others: Path):
    before = dataset_file(quick, home).read_bytes()
    found = drift(quick, home, source=others)
    assert not found.alarm and not found.cached and found.result["new"]["groups"] == 4
    assert dataset_file(quick, home).read_bytes() == before
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    again = drift(quick, home, source=others)
    assert again.cached and again.folder == found.folder and again.result == found.result
    named = "".join(path.read_text() for path in found.folder.glob("*.json"))
    assert "patient" not in named and "other_heads" not in named


@pytest.mark.parametrize("name, change", [
    ("noise", lambda image: image + np.random.default_rng(0).normal(0, 0.6 * image.std(), image.shape)),
    ("blur", lambda image: ndimage.gaussian_filter(image, 1.2)),
])  # fmt: skip
def test_drift__another_scanner_is_an_alarm_that_names_what_changed(
    home: Path, quick: Recipe, others: Path, tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]
):  # fmt: skip
    found = drift(quick, home, source=changed(others, tmp_path / name, change))
    assert found.alarm
    over = {one["name"] for one in found.result["tests"][0]["statistics"] if one["alarm"]}
    assert any("noise" in statistic or "sharpness" in statistic or "snr" in statistic for statistic in over)


def test_drift__a_manifest_is_a_source_and_what_is_known_is_not_new(
    home: Path, quick: Recipe, others: Path, archive: Path, tmp_path: Path
):
    folder = drift(quick, home, source=others).folder
    contract = read_manifest(Store(home).path("manifest", find_dataset(quick, home).manifest)).contract
    taken = take_in(others, quick, home, contract=contract)
    assert drift(quick, home, source=Store(home).path("manifest", taken.dataset.manifest)).folder == folder
    with pytest.raises(NothingUsable, match="all 10 subjects already"):
        drift(quick, home, source=archive)
    foreign = taken.manifest.model_copy(update={"contract": contract.model_copy(update={"rules": {"kind": "2D"}})})
    (tmp_path / "foreign.json").write_text(foreign.model_dump_json())
    with pytest.raises(ContractMismatch):
        drift(quick, home, source=tmp_path / "foreign.json")


def test_drift__nothing_to_compare_with_or_nothing_there(home: Path, quick: Recipe, others: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="no folder and no manifest"):
        drift(quick, home, source=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="ingest"):
        drift(quick, tmp_path / "empty", source=others)
