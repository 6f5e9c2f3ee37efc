"""A served model reads no path that it may not, takes base64, and says what `predict` writes; a real server answers."""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import selfsight
from domains.recipe import Recipe
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.predict import predict
from pipelines.registry import artifacts_folder, find_version, register_model, resolve
from pipelines.serve import ROOT
from pipelines.tracking import tracking_uri


@dataclass
class Served:
    home: Path
    folder: Path
    image: Path
    model: Any


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, archive: Path, few_steps: Recipe) -> Served:
    """A registered model, as MLflow loads it."""
    home, recipe = tmp_path_factory.mktemp("served"), few_steps.changed({"finetune.steps": "1", "size": "tiny"})
    ingest(archive, recipe, home)
    trained = finetune(recipe, home, encoder=None, label_budget=2)
    register_model(home, "brain-tumor", trained.folder, run_id=None, alias="challenger", tags={}, description="")
    folder = resolve(home, "models:/brain-tumor@challenger")
    return Served(home, folder, min(archive.glob("*/flair.nii.gz")), selfsight._load_pyfunc(str(folder)))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def same(answer: dict[str, Any], served: Served, out: Path) -> None:
    """The answer is what `predict` writes, whatever the file is called."""
    [expected] = predict(served.folder, [served.image], out, served.home)
    files = {Path(file).name.partition("_")[2]: Path(file) for file in expected["files"]}
    [told] = answer["predictions"]
    [figures] = told["figures"].values()
    wanted = json.loads(files["result.json"].read_text())
    assert {**figures, "image": ""} == {**wanted, "image": ""} and "found" in figures
    sent = {one["name"].partition("_")[2]: base64.b64decode(one["content"]) for one in told["files"]}
    assert set(sent) == set(files) - {"result.json"} and sent["overlay.png"].startswith(b"\x89PNG")
    mask = nibabel.Nifti1Image.from_bytes(gzip.decompress(sent["prediction.nii.gz"]))
    theirs = nibabel.load(files["prediction.nii.gz"])
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(theirs.dataobj))
    assert np.array_equal(mask.affine, nibabel.load(served.image).affine)


def test_answer__base64_gzipped_or_plain_is_what_predict_writes(served: Served, tmp_path: Path) -> None:
    data = served.image.read_bytes()
    for sent in (data, gzip.decompress(data)):
        [answer] = served.model.predict([{"content": base64_of(sent)}])
        same(answer, served, tmp_path / "out")


def test_answer__paths_below_the_root_alone(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def why(path: str) -> str:
        [answer] = served.model.predict([{"path": path, "content": float("nan")}])
        return str(answer.get("refused"))

    root = tmp_path / "root"
    root.mkdir()
    (root / "there.nii.gz").write_bytes(served.image.read_bytes())
    (root / "link.nii.gz").symlink_to(served.image)
    monkeypatch.delenv(ROOT, raising=False)
    assert "SELFSIGHT_SERVE_ROOT is not set" in why("there.nii.gz") and "not set" in why(str(served.image))
    monkeypatch.setenv(ROOT, str(root))
    assert why("there.nii.gz") == why(str(root / "there.nii.gz")) == "None"
    for outside in (str(served.image), "../x", "/etc/passwd", "link.nii.gz", str(root / ".." / "x"), f"{root}x/y"):
        assert why(outside) == "this path is not below SELFSIGHT_SERVE_ROOT", outside
    assert "no such file" in why("else.nii.gz") and why("a\0b") == "this is no path"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({}, "either"),
        ({"path": "a", "content": "b"}, "either"),
        ({"content": 3}, "either"),
        ({"content": "no base64!"}, "not base64"),
        ({"content": base64_of(b"\0\0\0\x18ftypisom" + b"\0" * 500)}, "recording"),
        ({"content": base64_of(b"GIF89a" + b"\0" * 500)}, "no NIfTI, JPEG or PNG"),
        ({"content": base64_of(b"\x1f\x8b" + b"\0" * 50)}, ""),
        ({"content": base64_of(b"\xff\xd8\xff" + b"\0" * 50)}, ""),
    ],
)
def test_answer__bad_inputs_are_refused_with_a_reason_beside_a_good_one(
    served: Served, row: dict[str, Any], why: str
) -> None:
    [bad, good] = served.model.predict([row, {"content": base64_of(served.image.read_bytes())}])
    assert why in bad["refused"] and "/" not in bad["refused"] and good["predictions"]


@pytest.mark.slow
def test_serve__mlflow_models_serve_answers_a_nifti_as_predict_does(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(served.home))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv(ROOT, str(served.image.parents[1]))
    loaded = mlflow.pyfunc.load_model("models:/brain-tumor@challenger")
    assert [one.name for one in loaded.metadata.get_input_schema()] == ["path", "content"]
    same(loaded.predict([{"path": str(served.image)}])[0], served, tmp_path / "one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = artifacts_folder(served.home, find_version(served.home, "models:/brain-tumor@challenger"))
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]), "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", str(folder),
             "--host", "127.0.0.1", "--port", str(port)],
            env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while not _answers(f"{url}/ping"):
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.5)
        rows = [{"content": base64_of(served.image.read_bytes())}, {"path": str(served.image)}, {"path": "/etc/passwd"}]
        asked = urllib.request.Request(
            f"{url}/invocations", json.dumps({"dataframe_records": rows}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=120) as said:
            sent, named, outside = json.loads(said.read())["predictions"]
        same(sent, served, tmp_path / "two")
        same(named, served, tmp_path / "three")
        assert "not below" in outside["refused"]
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as said:
            return bool(said.status == 200)
    except OSError:
        return False
