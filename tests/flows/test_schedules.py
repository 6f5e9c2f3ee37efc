"""A schedule without its path: kept in the home, resolved through the private book beside the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from domains.domain import find_recipe
from domains.errors import RecipeError, UsageError
from flows.cli import app
from flows.schedules import SOURCES, keep_schedule, remove_schedule, schedules_of, work_of

NIGHT = {"cron": "0 2 * * *"}


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "DOE_JANE_19700101"
    folder.mkdir()
    return folder


def test_keep_schedule__path_is_found_by_the_key_and_is_not_in_the_home(tmp_path, source, monkeypatch):
    recipe = find_recipe("brain_tumor")[1].changed({"pretrain.steps": "7"})
    keep_schedule(recipe, source, tmp_path / "home", **NIGHT)
    assert work_of(tmp_path / "home", "brain_tumor") == (recipe, source)
    for file in (tmp_path / "home").rglob("*"):
        assert not file.is_file() or b"DOE_JANE" not in file.read_bytes()
    monkeypatch.setenv("SELFSIGHT_KEY", str(tmp_path / "other" / "key"))
    with pytest.raises(UsageError, match="schedule it again"):
        work_of(tmp_path / "home", "brain_tumor")


def test_keep_schedule__replaces_and_is_removed(tmp_path, source):
    recipe = find_recipe("road_scene")[1]
    keep_schedule(recipe, source, tmp_path, **NIGHT)
    keep_schedule(recipe, source, tmp_path, every_seconds=60.0, drift_cron="0 8 * * *")
    (kept,) = schedules_of(tmp_path)
    assert kept.said() == "every 60 s, drift cron 0 8 * * *"
    with pytest.raises(UsageError, match="road_scene"):
        remove_schedule(tmp_path, "chest_xray")
    remove_schedule(tmp_path, "road_scene")
    assert schedules_of(tmp_path) == []


def test_work_of__a_worker_elsewhere_has_a_folder_of_sources(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=SOURCES):
        work_of(tmp_path, "chest_xray")
    monkeypatch.setenv(SOURCES, "/data")
    recipe, source = work_of(tmp_path, "chest_xray")
    assert recipe.name == "chest_xray" and source == Path("/data/chest_xray")
    with pytest.raises((UsageError, RecipeError)):
        work_of(tmp_path, "../etc")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to run"),
        (["brain_tumor"], "needs RECIPE"),
        (["brain_tumor", ".", "--cron", "0 2 * * *", "--every", "60"], "needs RECIPE"),
        (["brain_tumor", "nowhere", "--every", "60"], "no folder"),
        (["brain_tumor", ".", "--cron", "every night"], "not a schedule"),
        (["brain_tumor", ".", "--cron", "0 2 * * *", "--timezone", "Mars/Olympus"], "not a schedule"),
        (["brain_tumor", ".", "--every", "60", "--drift-cron", "61 * * * *"], "not a schedule"),
        (["--remove", "brain_tumor"], "no schedule"),
    ],
)
def test_schedule__wrong_words_start_nothing(tmp_path, words, said):
    answer = CliRunner().invoke(app, ["schedule", *words, "--home", str(tmp_path / "home")])
    assert answer.exit_code == 2 and said in answer.output
    assert (
        not (tmp_path / "home" / "prefect" / "server.json").exists() and not (tmp_path / "home" / "schedules").exists()
    )


def test_schedule__list_says_when(tmp_path, source):
    keep_schedule(find_recipe("brain_tumor")[1], source, tmp_path, timezone="Europe/Berlin", **NIGHT)
    answer = CliRunner().invoke(app, ["schedule", "--list", "--home", str(tmp_path)])
    assert answer.exit_code == 0 and "cron 0 2 * * * (Europe/Berlin), drift on request" in answer.output
