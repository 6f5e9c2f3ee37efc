"""Every file gets a verdict, bad ones with a reason; unchanged files are not read again; no name enters the home."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_files import write_nifti

from domains.domain import Domain, find_recipe, load
from domains.errors import NothingUsable, UsageError
from domains.manifest import read_manifest
from domains.recipe import Recipe
from domains.store import Store
from pipelines.dataset import find_dataset, open_dataset
from pipelines.fan_out import in_order
from pipelines.ingest import ingest
from pipelines.pretrain import pretrain_key


@pytest.fixture
def recipe() -> Recipe:
    return find_recipe("brain_tumor")[1]


def write_hundred(folder: Path) -> None:
    """100 images of which 5 are broken, each in another way."""
    for i in range(95):
        write_nifti(folder / f"patient_{i:03}" / "flair.nii.gz", seed=i)
    truncated = write_nifti(folder / "truncated" / "flair.nii.gz", seed=200)
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
    data = np.full((48, 48, 12), 7.0, np.float32)
    for name, change in {"constant": 7.0, "nan": np.nan}.items():
        data[:] = change
        (folder / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(data, np.diag([2, 2, 5, 1])), folder / name / "flair.nii.gz")
    good = gzip.decompress(write_nifti(folder / "absurd" / "flair.nii.gz", seed=201).read_bytes())
    header = bytearray(good)
    header[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
    (folder / "absurd" / "flair.nii.gz").write_bytes(gzip.compress(bytes(header)))
    (folder / "text").mkdir()
    (folder / "text" / "flair.nii.gz").write_bytes(gzip.compress(b"this is not an image" * 100))
    (folder / "notes.txt").write_text("exported on Monday")


def test_ingest__100_files_5_broken__95_accepted_5_refused_with_reasons(tmp_path: Path, recipe: Recipe) -> None:
    write_hundred(tmp_path / "archive")
    done = ingest(tmp_path / "archive", recipe, tmp_path / "home")
    assert done.counts == {
        "found": 101, "accepted": 95, "refused": 5, "labels": 0, "ignored": 1, "subjects": 95, "groups": 95,
    }  # fmt: skip
    manifest = read_manifest(done.manifest)
    reasons = [r.reason for r in manifest.records if r.verdict == "refused"]
    assert len(reasons) == 5 and all(reasons) and len(set(reasons)) == 5, reasons
    assert {Path(path).parent.name for path, _ in done.refused} == {"truncated", "constant", "nan", "absurd", "text"}
    assert manifest.digest == done.manifest_digest


def test_ingest__no_name_enters_the_home(tmp_path: Path, recipe: Recipe) -> None:
    image = write_nifti(tmp_path / "archive" / "ROE^JANE_19620517" / "flair.nii.gz", seed=1)
    volume = nibabel.load(image)
    volume.header["descrip"] = b"ROE^JANE MRN 4711"
    nibabel.save(volume, image)
    ingest(tmp_path / "archive", recipe, tmp_path / "home")
    for file in (tmp_path / "home").rglob("*"):
        assert b"JANE" not in str(file.relative_to(tmp_path)).encode()
        assert file.is_dir() or not any(w in file.read_bytes() for w in (b"JANE", b"4711", b"19620517", b"flair.nii"))


def test_ingest__unchanged_files_are_not_read_again(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(6):
        write_nifti(tmp_path / "archive" / f"p{i}" / "flair.nii.gz", seed=i)
    first = ingest(tmp_path / "archive", recipe, tmp_path / "home")
    seen: list[str] = []
    domain = load("medical")

    def counting(candidate, recipe):  # type: ignore[no-untyped-def]
        seen.append(candidate.name)
        return domain.read(candidate, recipe)

    monkeypatch.setattr("pipelines.ingest.load", lambda name: Domain(**{**vars(domain), "read": counting}))
    again = ingest(tmp_path / "archive", recipe, tmp_path / "home")
    assert (seen, again.manifest) == ([], first.manifest)
    write_nifti(tmp_path / "archive" / "p6" / "flair.nii.gz", seed=6)
    grown = ingest(tmp_path / "archive", recipe, tmp_path / "home")
    assert len(seen) == 1
    assert grown.counts["accepted"] == 7


def test_ingest__same_content_twice__second_is_refused(tmp_path: Path, recipe: Recipe) -> None:
    for name in ("a", "b"):
        image = write_nifti(tmp_path / "archive" / name / "flair.nii.gz", seed=1)
    (image.parent / "mask.nii.gz").write_bytes(image.read_bytes())
    done = ingest(tmp_path / "archive", recipe, tmp_path / "home")
    assert (done.counts["accepted"], done.counts["refused"], done.counts["ignored"]) == (1, 1, 1)
    [(path, reason)] = done.refused
    assert path == str(image) and "same content" in reason


def test_ingest__nothing_usable__one_clear_sentence(tmp_path: Path, recipe: Recipe) -> None:
    for name in ("a", "b"):
        (tmp_path / "archive" / name).mkdir(parents=True)
        (tmp_path / "archive" / name / "flair.nii.gz").write_bytes(b"not an image")
    with pytest.raises(NothingUsable) as error:
        ingest(tmp_path / "archive", recipe, tmp_path / "home")
    assert error.value.exit_code == 3
    assert "\n" not in str(error.value)


def test_ingest__no_folder__usage_error(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="no folder"):
        ingest(tmp_path / "nowhere", recipe, tmp_path / "home")


def test_ingest__masks_added_later__encoder_key_unchanged(tmp_path: Path, recipe: Recipe) -> None:
    home, store = tmp_path / "home", Store(tmp_path / "home")
    files = [write_nifti(tmp_path / "archive" / f"p{i}" / "flair.nii.gz", seed=i) for i in range(5)]
    ingest(tmp_path / "archive", recipe, home)
    manifest, labels = open_dataset(recipe, home)
    before = pretrain_key(store, recipe, manifest.contract, manifest.subjects)
    assert not labels.entries
    for file in files:
        image = nibabel.load(file)
        mask = np.zeros(image.shape, np.uint8)
        mask[20:26, 20:26, 5:7] = 1
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), file.with_name("mask.nii.gz"))
    done = ingest(tmp_path / "archive", recipe, home)
    manifest, labels = open_dataset(recipe, home)
    assert (done.counts["labels"], len(labels.entries)) == (5, 5)
    assert pretrain_key(store, recipe, manifest.contract, manifest.subjects) == before


def test_ingest__two_at_once__one_dataset_nothing_lost(tmp_path: Path, recipe: Recipe) -> None:
    for half in "ab":
        for i in range(4):
            write_nifti(tmp_path / half / f"{half}{i}" / "flair.nii.gz", seed=ord(half) * 10 + i)
    threads = [
        threading.Thread(target=ingest, args=(tmp_path / half, recipe, tmp_path / "home")) for half in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert find_dataset(recipe, tmp_path / "home") is not None
    assert len(open_dataset(recipe, tmp_path / "home")[0].subjects) == 8


def test_in_order__keeps_order_and_surfaces_errors() -> None:
    assert list(in_order(lambda i: i * i, range(20), threads=3)) == [i * i for i in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda i: 1 // (5 - i), range(20), threads=3))
