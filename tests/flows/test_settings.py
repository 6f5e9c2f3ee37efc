"""Where the home is, and that the services live in it."""

from __future__ import annotations

import os

from flows.settings import find_home, prepare_environment


def test_find_home__given_then_environment_then_upward_then_here(tmp_path, monkeypatch):
    project = tmp_path / "project"
    (project / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(project / "a" / "b")
    assert find_home() == project / "a" / "b" / ".selfsight"
    (project / "a" / "b" / ".selfsight" / ".gitignore").unlink()
    (project / "a" / "b" / ".selfsight").rmdir()
    (project / ".selfsight").mkdir()
    assert find_home() == project / ".selfsight"
    monkeypatch.setenv("SELFSIGHT_HOME", str(tmp_path / "named"))
    assert find_home() == tmp_path / "named"
    assert find_home(tmp_path / "given") == tmp_path / "given"


def test_find_home__a_new_home_is_kept_out_of_git(tmp_path):
    home = find_home(tmp_path / "home")
    assert (home / ".gitignore").read_text() == "*\n"


def test_prepare_environment__what_the_user_has_set_stays_but_the_place_does_not(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ | {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_HOME": "/elsewhere"})
    prepare_environment(tmp_path)
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "INFO"
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
