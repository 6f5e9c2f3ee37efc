"""A full disk in a store write or a checkpoint: said with path and bytes, nothing half is left, the rerun finishes."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving_files import write_video
from nifti_files import write_nifti

from domains.domain import find_recipe
from domains.errors import SelfsightError
from domains.recipe import Recipe
from domains.store import Store, room_for
from pipelines.dataset import open_dataset
from pipelines.ingest import ingest
from pipelines.loop import train
from tests.pipelines.tiny_training import Silent, digest_of, make_job


@pytest.fixture
def recipe() -> Recipe:
    return find_recipe("brain_tumor")[1]


def limited(do: Callable[[], Any], most_bytes: int) -> str:
    """What `do` raises as SelfsightError in a process that may write no file larger than so many bytes, or ""."""

    def work(answer: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        try:
            do()
            answer.send("")
        except SelfsightError as error:
            answer.send(str(error))
        except BaseException:
            answer.send("not typed: " + traceback.format_exc())

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(there,))
    process.start()
    there.close()
    try:
        return str(here.recv()) if here.poll(60) else "no answer"
    finally:
        process.kill()
        process.join()


def left_over(home: Path) -> list[str]:
    """Temporary folders, and entries that are not whole."""
    entries = list((home / "store").glob("*/*"))
    return [path.name for path in entries if path.name.startswith(".") or not (path / "entry.json").is_file()]


def archive(folder: Path, count: int) -> Path:
    for i in range(count):
        write_nifti(folder / f"p{i}" / "flair.nii.gz", seed=i, shape=(32, 32, 12))
    return folder


def test_ingest__no_room_for_an_entry(tmp_path: Path, recipe: Recipe) -> None:
    home, straight = tmp_path / "home", tmp_path / "straight"
    before = ingest(archive(tmp_path / "archive", 2), recipe, home)
    archive(tmp_path / "archive", 4)
    error = limited(lambda: ingest(tmp_path / "archive", recipe, home), 6000)
    found = re.search(
        rf"{home}/store/ingest/\w+ cannot be written \(File too large\): it needs more than the (\d+) b", error
    )
    assert found and int(found[1]) > 0 and "bytes are free" in error and "run the same command again" in error
    assert left_over(home) == []
    assert open_dataset(recipe, home)[0].digest == before.manifest_digest
    done, expected = ingest(tmp_path / "archive", recipe, home), ingest(tmp_path / "archive", recipe, straight)
    assert done.manifest_digest == expected.manifest_digest != before.manifest_digest


def test_ingest__no_room_for_a_recording__is_no_bad_file(tmp_path: Path) -> None:
    recipe, home = find_recipe("road_scene")[1], tmp_path / "home"
    (tmp_path / "drives").mkdir()
    write_video(tmp_path / "drives" / "a.mp4", np.arange(90) / 30, shape=(240, 320))
    error = limited(lambda: ingest(tmp_path / "drives", recipe, home), 600)
    assert "cannot be written" in error and "not typed" not in error
    assert not list((home / "datasets").glob("*.json"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a tmpfs can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_ingest__file_system_full__more_room_and_the_same_digest(
    tmp_path: Path, recipe: Recipe, small_disk: Path
) -> None:
    source, home = archive(tmp_path / "archive", 12), small_disk / "home"
    with pytest.raises(SelfsightError, match="No space left on device") as error:
        ingest(source, recipe, home)
    assert str(home) in str(error.value) and left_over(home) == []
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert ingest(source, recipe, home).manifest_digest == ingest(source, recipe, tmp_path / "big").manifest_digest


def test_train__no_room_for_a_checkpoint__the_one_before_survives(tmp_path: Path) -> None:
    full, straight, limits = (
        tmp_path / "full",
        make_job(tmp_path / "straight"),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    train(straight, Silent())  # type: ignore[arg-type]

    def watch(step: int, module: Any) -> dict[str, float]:
        if step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        return {}

    try:
        with pytest.raises(
            SelfsightError, match=rf"{full}/checkpoints/step-00000010 cannot be written .* needs \d+ MB"
        ):
            train(make_job(full, watch=watch, watch_every=1), Silent())  # type: ignore[arg-type]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (full / "checkpoints").iterdir()] == ["step-00000005"]
    resumed = make_job(full)
    assert train(resumed, Silent()).resumed_at == [5]  # type: ignore[arg-type]
    assert digest_of(resumed.module) == digest_of(straight.module)


def test_build__rename_without_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, os.strerror(28), str(target))

    store = Store(tmp_path)
    monkeypatch.setattr("domains.store.os.rename", full)
    with pytest.raises(SelfsightError, match="it needs more than the 1018 bytes that fit"):
        store.build("ingest", "a" * 32, lambda folder: {"bytes": (folder / "x").write_text("x" * 1000)})
    assert list((tmp_path / "store" / "ingest").iterdir()) == []


def test_room_for__other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room_for(tmp_path, tmp_path):
        raise PermissionError(13, "denied")
