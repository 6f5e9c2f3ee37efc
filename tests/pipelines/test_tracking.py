"""Tracking: MLflow away, dead or back never costs a training or doubles a step; the registry finds its models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow_process import closed_port

from domains.errors import UsageError
from pipelines import tracking
from pipelines.checkpoint import Damaged, read_model, write_model
from pipelines.registry import list_models, register_model, resolve
from pipelines.tracking import Tracker, client, sync, tracking_uri


@pytest.fixture(scope="module")
def fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose database is migrated: that takes seconds, so it is done once and copied."""
    home = tmp_path_factory.mktemp("fresh")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    tracking.client(home)
    return home


@pytest.fixture
def home(fresh_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fresh_home, tmp_path / "home"))


@pytest.fixture(autouse=True)
def _quick_and_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "SEND_EVERY_SECONDS", 0.05)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def _tracker(home: Path, **changes: Any) -> Tracker:
    fields: dict[str, Any] = {
        "experiment": "brain_tumor", "run_name": "pretrain", "tags": {"key": "k"},
        "params": {"subjects": 4, "dataset_digest": "ab" * 32, "mae": {"mask_ratio": 0.5}},
    }  # fmt: skip
    return Tracker(home / "runs" / "one", home, **(fields | changes))


def _runs(home: Path) -> list[Any]:
    client = tracking.client(home)
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def _curve(home: Path, run_id: str, name: str = "loss") -> list[int]:
    return [point.step for point in tracking.client(home).get_metric_history(run_id, name)]


def test_tracker__one_run_with_everything(home: Path) -> None:
    tracker = _tracker(home)
    for step in range(5):
        tracker.log(step, {"loss": 1.0 / (step + 1)})
    tracker.picture("cases/a.png", b"\x89PNG")
    tracker.note("goes on")
    tracker.close()
    [run] = _runs(home)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "pretrain")
    assert run.data.params["mae.mask_ratio"] == "0.5" and run.data.tags["key"] == "k"
    assert run.inputs.dataset_inputs[0].dataset.digest == "ab" * 16 + "abab"
    assert _curve(home, run.info.run_id) == list(range(5))
    assert (home / "mlflow-artifacts" / "brain_tumor" / run.info.run_id / "artifacts/pictures/cases/a.png").exists()
    assert json.loads((home / "runs/one/run.json").read_text())["run_id"] == run.info.run_id


def test_tracker__resumed_is_the_same_run_without_double_steps(home: Path) -> None:
    first = _tracker(home)
    for step in range(8):
        first.log(step, {"loss": 1.0})
    first.close("FAILED")
    again = _tracker(home)
    for step in range(5, 12):
        again.log(step, {"loss": 1.0})
    again.close()
    [run] = _runs(home)
    assert run.info.status == "FINISHED"
    assert _curve(home, run.info.run_id) == list(range(12))


def test_sync__records_sent_and_not_confirmed_are_not_doubled(home: Path) -> None:
    tracker = _tracker(home)
    for step in range(5):
        tracker.log(step, {"loss": 1.0, "bad": float("nan")})
    tracker.close()
    (home / "runs/one/cursor.json").unlink()
    run = json.loads((home / "runs/one/run.json").read_text())
    (home / "runs/one/run.json").write_text(json.dumps(run | {"tracking": None, "run_id": None}))
    assert sync(home)["records"] > 0
    [found] = _runs(home)
    assert _curve(home, found.info.run_id) == list(range(5))
    assert _curve(home, found.info.run_id, "bad") == list(range(5))


def test_tracker__unreachable_then_back(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port()}")
    tracker, started = _tracker(home), time.monotonic()
    for step in range(5):
        tracker.log(step, {"loss": 1.0})
    assert time.monotonic() - started < 1
    time.sleep(0.3)
    tracker.close()
    said = capsys.readouterr().err
    assert said.count("does not answer") == 1 and "secret" not in said
    assert "secret" not in "".join(path.read_text() for path in (home / "runs/one").glob("*.json*"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(home)["records"] >= 7
    assert sync(home) == {"runs": 1, "records": 0}
    [run] = _runs(home)
    assert run.info.status == "FINISHED"
    assert _curve(home, run.info.run_id) == list(range(5))


def test_tracker__system_figures(home: Path) -> None:
    tracker = _tracker(home)
    tracker.log(0, {"loss": 1.0})
    time.sleep(0.3)
    tracker.close()
    text = (home / "runs/one/journal.jsonl").read_text()
    assert "system/rss_mb" in text and "system/cpu_percent" in text


def test_tracker__as_a_context_manager(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), _tracker(home) as tracker:
        tracker.log(0, {"loss": 1.0})
        raise ZeroDivisionError
    assert _runs(home)[0].info.status == "FAILED"


def test_tracking_uri__absolute_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path("h")) == f"sqlite:///{tmp_path}/h/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri(Path("h")) == "http://tracking:5000"


@pytest.mark.slow
def test_import__mlflow_stays_out_until_needed() -> None:
    code = "import sys, pipelines.tracking, pipelines.loop; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _model(folder: Path, value: float) -> Path:
    write_model(folder, {"w": torch.full((3,), value)}, {"kind": "model"})
    return folder


def _register(home: Path, folder: Path, alias: str | None = "challenger", **changes: Any) -> str:
    fields: dict[str, Any] = {"run_id": None, "tags": {"manifest": "m"}, "description": "Dice 0.8"}
    return register_model(home, "brain-tumor", folder, alias=alias, **(fields | changes))


def test_register_model__versions_aliases_and_the_same_twice(home: Path, tmp_path: Path) -> None:
    assert list_models(home) == []
    one, two = _model(tmp_path / "one", 1.0), _model(tmp_path / "two", 2.0)
    assert _register(home, one) == "models:/brain-tumor/1"
    assert _register(home, two) == "models:/brain-tumor/2"
    assert _register(home, one) == "models:/brain-tumor/1"
    client(home).set_registered_model_alias("brain-tumor", "champion", "1")
    first, second = list_models(home)
    assert (first["aliases"], second["aliases"]) == (["champion"], ["challenger"])
    assert first["tags"]["manifest"] == "m" and first["description"] == "Dice 0.8" and first["run_id"]
    for reference, folder in (("@champion", one), ("@challenger", two), ("/1", one), ("", two)):
        assert read_model(resolve(home, f"models:/brain-tumor{reference}"))[1] == read_model(folder)[1]
    assert resolve(home, one) == one


def test_register_model__killed_between_version_and_alias__the_next_one_gives_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    one = _model(tmp_path / "one", 1.0)
    with monkeypatch.context() as own, pytest.raises(KeyboardInterrupt):
        own.setattr(MlflowClient, "set_registered_model_alias", killed)
        _register(home, one)
    assert list_models(home)[0]["aliases"] == []
    for _ in range(2):
        assert _register(home, one) == "models:/brain-tumor/1"
        assert list_models(home)[0]["aliases"] == ["challenger"]
    assert "alias_due" not in list_models(home)[0]["tags"]
    client(home).delete_registered_model_alias("brain-tumor", "challenger")
    _register(home, one)
    assert list_models(home)[0]["aliases"] == [], "taken away on purpose: it stays away"


def test_register_model__as_artifact_of_the_run_it_came_from(home: Path, tmp_path: Path) -> None:
    tracker = _tracker(home)
    tracker.log(0, {"loss": 1.0})
    tracker.close()
    run_id = json.loads((home / "runs/one/run.json").read_text())["run_id"]
    _register(home, _model(tmp_path / "m", 1.0), run_id=run_id)
    assert list_models(home)[0]["run_id"] == run_id
    assert (home / "mlflow-artifacts/brain_tumor" / run_id / "artifacts/models/brain-tumor/MLmodel").exists()
    assert len(_runs(home)) == 1


def test_register_model__plain_mlflow_loads_it_with_pickles_off(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    class Fake:
        def __init__(self, path: str) -> None:
            self.tensors, _ = read_model(Path(path))

        def predict(self, data: Any) -> float:
            return float(self.tensors["w"].sum())

    module = types.ModuleType("selfsight")
    module._load_pyfunc = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "selfsight", module)
    _register(home, _model(tmp_path / "m", 2.0))
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    mlflow.set_tracking_uri(tracking_uri(home))
    assert mlflow.pyfunc.load_model("models:/brain-tumor@challenger").predict([0]) == 6.0
    files = [p.name for p in (home / "mlflow-artifacts").rglob("*") if p.is_file()]
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".bin", ".pth"))]


@pytest.mark.parametrize("reference", ["models:/brain-tumor@champion", "models:/lung/1", "models:/brain-tumor/9"])
def test_resolve__unknown_names_those_there_are(home: Path, tmp_path: Path, reference: str) -> None:
    with pytest.raises(UsageError, match="registry is empty"):
        resolve(home, reference)
    _register(home, _model(tmp_path / "m", 1.0))
    with pytest.raises(UsageError, match=r"has: models:/brain-tumor/1, models:/brain-tumor@challenger"):
        resolve(home, reference)


def test_resolve__weights_that_were_exchanged(home: Path, tmp_path: Path) -> None:
    _register(home, _model(tmp_path / "m", 1.0))
    _model(resolve(home, "models:/brain-tumor/1"), 3.0)
    with pytest.raises(Damaged, match="weights that were registered"):
        resolve(home, "models:/brain-tumor/1")


def test_resolve__empty_home_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="registry is empty"):
        resolve(tmp_path, "models:/x@champion")
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_client__two_processes_on_a_new_home(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from pipelines import tracking; tracking.client(Path({str(tmp_path)!r}))"
    pair = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in "ab"]
    assert [process.communicate()[1].decode()[-500:] for process in pair] == ["", ""]
    assert [process.returncode for process in pair] == [0, 0]
