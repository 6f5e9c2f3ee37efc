"""`selfsight score`: nothing is scored twice, what is new or changed or lost is; Prefect hears no name."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from xray_files import write_archive

from domains.domain import find_recipe
from domains.errors import NothingUsable, UsageError
from domains.recipe import Recipe
from flows import score as command
from pipelines import score as verb
from pipelines.finetune import finetune
from pipelines.ingest import ingest

ROOT = Path(__file__).resolve().parents[2]
FEW = {"data.max_crop": "32", "finetune.steps": "1", "finetune.batch_size": "2", "finetune.warmup_steps": "0"}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return find_recipe("chest_xray")[1].changed(FEW)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_archive(folder / "clinic", 6)
    ingest(folder / "clinic", recipe, folder / "home")
    return finetune(recipe, folder / "home", encoder=None).folder


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    write_archive(tmp_path / "clinic", 3, seed=5)
    return tmp_path / "clinic"


def scored(model: Path, clinic: Path, tmp_path: Path) -> tuple[int, int, list[dict[str, Any]]]:
    """New, before, and the lines of the table, without a server."""
    out, home = tmp_path / "out", tmp_path / "home"
    home.mkdir(exist_ok=True)
    plan = verb.plan_scoring(model, clinic, out, home)
    for key, candidate in pickle.loads(pickle.dumps(plan)).todo:
        verb.score_one((key, candidate), model=plan.model, out=plan.out, home=plan.home)
    verb.table_of(plan, [*plan.done, *(key for key, _ in plan.todo)])
    lines = [json.loads(line) for line in (out / verb.TABLE).read_text().splitlines()]
    return len(plan.todo), len(plan.done), lines


def test_score__nothing_twice_but_what_is_new_changed_or_lost(model: Path, clinic: Path, tmp_path: Path) -> None:
    new, before, lines = scored(model, clinic, tmp_path)
    assert (new, before) == (4, 0) and len(lines) == 4
    assert all((tmp_path / "out" / file).is_file() for line in lines for file in line["files"])
    assert all(line["figures"] for line in lines)
    assert scored(model, clinic, tmp_path)[:2] == (0, 4)
    images = sorted((clinic / "images").iterdir())
    shutil.copyfile(images[0], images[1])  # other bytes under a known name
    (tmp_path / "out" / lines[2]["files"][0]).unlink()
    again = scored(model, clinic, tmp_path)
    assert again[:2] == (2, 2) and len(again[2]) == 4
    assert scored(model, clinic, tmp_path)[:2] == (0, 4)


def test_score__killed_in_the_middle__goes_on(model: Path, clinic: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    plan = verb.plan_scoring(model, clinic, tmp_path / "out", tmp_path / "home")
    for key, candidate in plan.todo[:1]:
        verb.score_one((key, candidate), model=plan.model, out=plan.out, home=plan.home)
    assert scored(model, clinic, tmp_path)[:2] == (3, 1)


def test_score__another_model_scores_all_anew(model: Path, clinic: Path, tmp_path: Path, recipe: Recipe) -> None:
    scored(model, clinic, tmp_path)
    other = finetune(recipe.changed({"seed": "9"}), model.parents[2], encoder=None).folder
    assert scored(other, clinic, tmp_path)[:2] == (4, 0)


def test_score__a_bad_image_is_a_line_of_the_table(model: Path, clinic: Path, tmp_path: Path) -> None:
    bad = min((clinic / "images").iterdir())
    bad.write_bytes(bad.read_bytes()[:200])
    _, _, lines = scored(model, clinic, tmp_path)
    assert [line["input"] for line in lines if "refused" in line] == [str(bad)]
    assert scored(model, clinic, tmp_path)[:2] == (0, 4), "a refused input is not tried again"
    with pytest.raises(UsageError, match="selfsight predict"):
        verb.plan_scoring(model, bad, tmp_path / "out", tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises((NothingUsable, UsageError)):
        verb.plan_scoring(model, tmp_path / "none", tmp_path / "out", tmp_path)


@pytest.mark.slow
def test_score__the_command_line__a_flow_of_batches_then_no_server(model: Path, tmp_path: Path) -> None:
    write_archive(tmp_path / "clinic", 9, seed=5)
    images, home = sorted((tmp_path / "clinic" / "images").iterdir()), tmp_path / "home"
    assert len(images) > command.BATCH

    def answer() -> dict[str, Any]:
        words = ["score", str(model), str(tmp_path / "clinic"), "--out", str(tmp_path / "out")]
        ended = subprocess.run([sys.executable, "-m", "flows.cli", *words, "--home", str(home), "--json"],
                               capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    first = answer()
    assert (first["new"], first["before"], len(first["scores"])) == (len(images), 0, len(images))
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as known:
        [(state, parameters)] = known.execute("select state_type, parameters from flow_run").fetchall()
        [(batches,)] = known.execute("select count(*) from task_run").fetchall()
    assert state == "COMPLETED" and json.loads(parameters) == {"inputs": len(images)} and batches == 2
    for file in (home / "prefect").rglob("*"):
        assert not file.is_file() or not any(image.name.encode() in file.read_bytes() for image in images), file
    shutil.rmtree(home / "prefect")
    again = answer()
    assert (again["new"], again["before"]) == (0, len(images)) and again["scores"] == first["scores"]
    assert not (home / "prefect").exists(), "a server was started for nothing"
