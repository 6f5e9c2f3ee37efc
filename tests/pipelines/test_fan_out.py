"""Ingest and prediction on a Ray cluster of two workers give what one machine gives, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from nifti_files import write_nifti

from domains.domain import find_recipe
from domains.errors import SelfsightError, UsageError
from domains.recipe import Recipe
from pipelines.fan_out import map_files, ray_here
from pipelines.ingest import ingest
from pipelines.loop import train
from tests.pipelines.shared_training import order_digest, shared_job
from tests.pipelines.tiny_training import Silent

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers on loopback; without a dashboard, and asking nobody."""
    environment = pytest.MonkeyPatch()
    environment.setenv("SELFSIGHT_FANOUT", "ray")
    environment.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    ray = ray_here()
    yield
    ray.shutdown()
    environment.undo()


@dataclass(frozen=True)
class Deadly:
    """Squares; the first worker that gets `at` is killed with it."""

    marker: Path
    at: int

    def __call__(self, number: int) -> tuple[int, int]:
        if number == self.at and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number, os.getpid()


def refuses(number: int) -> int:
    raise SelfsightError(f"not {number}")


@pytest.mark.slow
def test_map_files__a_killed_worker_loses_nothing(cluster: None, tmp_path: Path) -> None:
    found = list(map_files(Deadly(tmp_path / "killed", 5), range(12)))
    assert (tmp_path / "killed").exists()
    assert [square for square, _ in found] == [n * n for n in range(12)]
    assert os.getpid() not in {pid for _, pid in found} and len({pid for _, pid in found}) >= 2
    with pytest.raises(SelfsightError, match="not 0"):
        list(map_files(refuses, range(3)))


@pytest.mark.slow
def test_ingest__the_same_manifest_as_one_process_also_with_a_killed_worker(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, source = find_recipe("brain_tumor")[1], tmp_path / "archive"
    for i in range(12):
        write_nifti(source / f"p{i}" / "flair.nii.gz", seed=i)
    (source / "broken").mkdir()
    (source / "broken" / "flair.nii.gz").write_bytes(b"no image")
    on_ray = run_killing_a_worker(source, tmp_path / "ray", recipe)
    monkeypatch.setenv("SELFSIGHT_FANOUT", "threads")
    alone = ingest(source, recipe, tmp_path / "alone")
    assert on_ray.manifest_digest == alone.manifest_digest
    assert on_ray.counts == alone.counts and on_ray.counts["refused"] == 1
    assert not [path for path in (tmp_path / "ray" / "store" / "ingest").iterdir() if path.name.startswith(".")]


def run_killing_a_worker(source: Path, home: Path, recipe: Recipe):  # type: ignore[no-untyped-def]
    """Kills a worker that has written entries once the third one is there."""
    from threading import Thread

    killed: list[int] = []

    def kill() -> None:
        while not killed:
            if len(list((home / "store").glob("ingest/*/entry.json"))) >= 3:
                workers = [
                    p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0] == "ray::_apply"
                ]
                for worker in workers[:1]:
                    worker.kill()
                    killed.append(worker.pid)

    watcher = Thread(target=kill, daemon=True)
    watcher.start()
    done = ingest(source, recipe, home)
    watcher.join(0.5)
    assert killed
    return done


@pytest.mark.slow
def test_train__ranks_placed_by_ray_give_the_result_of_one(cluster: None, tmp_path: Path) -> None:
    alone = train(shared_job(tmp_path / "one"), Silent())  # type: ignore[arg-type]
    found = train(shared_job(tmp_path / "two", devices=2), Silent())  # type: ignore[arg-type]
    assert [loss for _, loss in found.losses] == pytest.approx([loss for _, loss in alone.losses], rel=1e-6)
    assert order_digest(tmp_path / "two", 2) == order_digest(tmp_path / "one", 1)


def test_map_files__a_setting_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFSIGHT_FANOUT", "dask")
    with pytest.raises(UsageError, match="may be threads"):
        list(map_files(abs, [1]))


def test_map_files__ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFSIGHT_FANOUT", "ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'selfsight\[ray\]'"):
        list(map_files(abs, [1]))


def test_ray__is_not_imported_unasked() -> None:
    check = "import sys, pipelines.ingest, pipelines.predict, pipelines.ranks; sys.exit('ray' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", check], env=environment, cwd=ROOT).returncode == 0
