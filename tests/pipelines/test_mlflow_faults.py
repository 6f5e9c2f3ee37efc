"""MLflow down at the start, back, frozen, killed, down at the end: nothing stops, is lost or is sent twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow_process import MlflowServer, closed_port

from domains.errors import Unreachable
from domains.recipe import Recipe
from pipelines import tracking
from pipelines.evaluate import evaluate
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.journal import records
from pipelines.loop import train
from pipelines.pretrain import pretrain
from pipelines.register import register
from pipelines.registry import list_models
from pipelines.tracking import Tracker, client, sync
from tests.pipelines.tiny_training import Silent, digest_of, make_job

STEPS, BACK_AT, FROZEN_AT, KILLED_AT = 24, 6, 12, 16
BLOCKED_SECONDS = 200.0
"""A dead server blocks one request of a plain MLflow client for 246 s; on an idle machine all of these take a
tenth of that together."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that is down, with a migrated database, and the environment that points to it."""
    folder, port = tmp_path / "server", closed_port()
    folder.mkdir()
    tracking.client(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
    with MlflowServer(folder, port) as made:
        yield made


def test_sync_and_client__no_answer_is_said_without_the_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker(tmp_path / "runs/one", tmp_path, experiment="e", run_name="r", params={}, tags={})
    tracker.log(0, {"loss": 1.0})
    tracker.close()
    with pytest.raises(Unreachable, match="does not answer") as failed:
        sync(tmp_path)
    assert failed.value.exit_code == 75 and "secret" not in str(failed.value)


def test_answering__what_mlflow_answers_is_no_silence(tmp_path):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="error code 401"), tracking.answering(tmp_path):
        raise MlflowException("API request to endpoint failed with error code 401 != 200")


@pytest.mark.slow
def test_training__down_at_start_back_frozen_killed_and_down_at_the_end(server, tmp_path, monkeypatch, capsys):
    for name, seconds in (("SEND_EVERY_SECONDS", 0.05), ("RETRY_AFTER_SECONDS", 0.5), ("CLOSE_WITHIN_SECONDS", 10.0)):
        monkeypatch.setattr(tracking, name, seconds)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    home, run = tmp_path / "home", tmp_path / "home/runs/tiny"
    undisturbed = make_job(tmp_path / "undisturbed")
    train(undisturbed, Silent())
    busy = 0.0

    def faults(step: int, module: Any) -> dict[str, float]:
        nonlocal busy
        started = time.monotonic()
        if step == BACK_AT:
            server.start()
            deadline = time.monotonic() + 60
            while not (run / "cursor.json").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        elif step == FROZEN_AT:
            server.freeze()
            time.sleep(0.5)  # figures of this step are on their way and nobody answers
        elif step == KILLED_AT:
            server.kill()
        busy += time.monotonic() - started
        return {}

    job = make_job(run, watch=faults, watch_every=1)
    tracker = Tracker(run, home, experiment="tiny", run_name="tiny", params={}, tags={})
    started = time.monotonic()
    train(job, tracker)
    tracker.close()
    assert time.monotonic() - started - busy < BLOCKED_SECONDS
    assert digest_of(job.module) == digest_of(undisturbed.module)
    assert "does not answer" in capsys.readouterr().err
    with pytest.raises(Unreachable):
        sync(home)
    server.start()
    assert sync(home)["records"] > 0 and sync(home)["records"] == 0
    mlflow = client(home)
    [found] = mlflow.search_runs([e.experiment_id for e in mlflow.search_experiments()])
    assert found.info.status == "FINISHED"
    logged = [r["step"] for r, _ in records(run / "journal.jsonl") if "loss" in r.get("values", {})]
    history = [point.step for point in mlflow.get_metric_history(found.info.run_id, "loss")]
    assert history == logged and len(set(history)) == len(history) and history[-1] == STEPS


@pytest.mark.slow
def test_register__while_it_is_away_then_again(server, tmp_path, archive: Path, quick: Recipe):
    home = tmp_path / "home"
    ingest(archive, quick, home)
    model = finetune(quick, home, encoder=pretrain(quick, home).folder)
    evaluation = evaluate(model.folder, home).folder
    started = time.monotonic()
    away = _register(evaluation, home)
    assert away.returncode == 75, away.stderr
    assert time.monotonic() - started < BLOCKED_SECONDS
    assert "does not answer" in away.stderr and "Traceback" not in away.stderr and "secret" not in away.stderr
    server.start()
    register(evaluation, home)
    registered = {model["name"]: model for model in list_models(home)}
    assert set(registered) == {"brain-tumor", "brain-tumor-encoder"}
    runs = {path.name: json.loads((path / "run.json").read_text())["run_id"] for path in (home / "runs").iterdir()}
    assert registered["brain-tumor"]["run_id"] == runs[f"evaluate-{evaluation.name}"], "no run of its own was made"
    assert len(client(home).search_runs([e.experiment_id for e in client(home).search_experiments()])) == len(runs)
    assert register(evaluation, home).model == registered["brain-tumor"]["uri"] and len(list_models(home)) == 2


def _register(evaluation: Path, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", "register", str(evaluation), "--home", str(home), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ, check=False)
