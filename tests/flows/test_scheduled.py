"""What scheduled flows decide: drift with an alarm starts a retraining, and Prefect hears of kinds, not of words."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from domains.domain import find_recipe
from domains.errors import NothingUsable, UsageError
from flows.schedules import SOURCES, keep_schedule

NAME = "brain_tumor"


@pytest.fixture
def scheduled(tmp_path, monkeypatch):
    """The module, with a home that has a schedule of a source that has nothing in it."""
    for name in ("PREFECT_HOME", "SELFSIGHT_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv(SOURCES, raising=False)
    source = tmp_path / "DOE_JANE"
    source.mkdir()
    keep_schedule(find_recipe(NAME)[1], source, tmp_path / "home", every_seconds=60.0)
    return importlib.import_module("flows.scheduled")


def look_for_drift(scheduled, monkeypatch, *, alarm: bool) -> list[str]:
    """Which deployments a look for drift starts."""
    started: list[str] = []
    found = SimpleNamespace(alarm=alarm, result={}, picture=Path("drift.png"))
    monkeypatch.setattr("pipelines.drift.drift", lambda recipe, home, source: found)
    monkeypatch.setattr("flows.artifacts.show_drift", lambda *_: None)
    monkeypatch.setattr("prefect.deployments.run_deployment", lambda name, **_: started.append(name))
    scheduled.drift.fn(NAME)
    return started


def test_drift__only_an_alarm_starts_a_retraining(scheduled, monkeypatch):
    assert look_for_drift(scheduled, monkeypatch, alarm=True) == [f"nightly/{NAME}"]
    assert look_for_drift(scheduled, monkeypatch, alarm=False) == []


def test_drift__nothing_new_is_no_fault(scheduled, monkeypatch, capsys):
    def nothing(recipe, home, source):
        raise NothingUsable("nothing new")

    monkeypatch.setattr("pipelines.drift.drift", nothing)
    scheduled.drift.fn(NAME)
    assert "nothing new" in capsys.readouterr().err


def test_drift__the_terminal_hears_the_words_and_prefect_the_kind(scheduled, monkeypatch, capsys):
    def fails(recipe, home, source):
        raise UsageError(f"no training data for {source}")

    monkeypatch.setattr("pipelines.drift.drift", fails)
    with pytest.raises(RuntimeError, match=r"^UsageError$") as raised:
        scheduled.drift.fn(NAME)
    assert raised.value.__suppress_context__
    assert "DOE_JANE" in capsys.readouterr().err


def test_drift__a_sigterm_is_what_prefect_calls_a_termination(scheduled, monkeypatch):
    from prefect.exceptions import TerminationSignal

    forever = threading.Event()
    monkeypatch.setattr("pipelines.drift.drift", lambda *_, **__: forever.wait(60))
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(TerminationSignal):
        scheduled.drift.fn(NAME)
    forever.set()
