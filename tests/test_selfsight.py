"""The public face: cheap to import, and the sketch of the design works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import selfsight
from domains.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]


def test_import__is_cheap():
    listing = "import sys, selfsight; print([m for m in ('torch', 'mlflow', 'prefect', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_all__names_exist():
    assert all(hasattr(selfsight, name) for name in selfsight.__all__)


def test_load__neither_a_model_nor_a_folder_of_one(tmp_path):
    with pytest.raises(UsageError, match="not a model folder"):
        selfsight.load(tmp_path, home=tmp_path / "home")


def test_load_pyfunc__takes_paths_as_a_list_or_as_a_table(tmp_path, monkeypatch):
    import pandas

    asked = []
    monkeypatch.setattr(selfsight.Handle, "predict", lambda self, inputs, out: asked.append((inputs, out)) or [])
    model = selfsight._load_pyfunc(str(tmp_path))
    model.predict(["a.nii.gz"], params={"out": "there"})
    model.predict(pandas.DataFrame({"path": ["a.nii.gz"]}))
    assert [inputs for inputs, _ in asked] == [["a.nii.gz"], ["a.nii.gz"]]
    assert asked[0][1] == "there"


def test_finetune__a_registered_encoder_on_ones_own_folder__in_python_and_as_a_command(tmp_path, monkeypatch):
    """The team's folder has names of its own, told in dataset.yaml, and no row of it is in the archive."""
    import os

    from typer.testing import CliRunner

    from domains.domain import find_recipe
    from flows.cli import app
    from pipelines.ingest import ingest
    from pipelines.models import open_model
    from pipelines.pretrain import pretrain
    from pipelines.registry import register_model

    few = {"steps": "2", "batch_size": "2", "warmup_steps": "1"}
    domain, recipe = find_recipe("brain_tumor")
    changes = {f"{verb}.{key}": value for verb in ("pretrain", "finetune") for key, value in few.items()}
    recipe = recipe.changed(changes | {"objective": "mae"})
    domain.generate(tmp_path / "archive", 5, 0)
    ingest(tmp_path / "archive", recipe, tmp_path / "home")
    register_model(
        tmp_path / "home", "brain-tumor-encoder", pretrain(recipe, tmp_path / "home").folder, run_id=None,
        alias="champion", tags={}, description="",
    )  # fmt: skip
    domain.generate(tmp_path / "raw", 6, 7)
    my = tmp_path / "my"
    (my / "scans").mkdir(parents=True)
    (my / "outlines").mkdir()
    for number, image in enumerate(sorted((tmp_path / "raw").rglob("*flair.nii.gz"))):
        image.rename(my / "scans" / f"K{number:02}-visit1.nii.gz")
        next(image.parent.glob("*mask*")).rename(my / "outlines" / f"K{number:02}-visit1_reader.nii.gz")
    (my / "dataset.yaml").write_text(
        "namespace: our-clinic\nlicence: for this test\nimages: {flair: 'scans/{subject}.nii.gz'}\n"
        "label: 'outlines/{subject}_reader.nii.gz'\ngroup: '(?P<group>K[0-9]+)'\nclasses: {tumor: 1}\n"
    )
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}"  # the team has its own home

    encoder = selfsight.load("models:/brain-tumor-encoder@champion", home=tmp_path / "theirs")
    assert sum(p.numel() for p in encoder.encoder().parameters()) > 0
    model = encoder.finetune(my, label_budget=2, changes={"finetune.encoder": "probe"})
    info = open_model(model.folder).info
    assert len(info["lineage"]["label_groups"]) == 2 and "for this test" in info["lineage"]["sources"].values()
    assert model.predict(next((my / "scans").iterdir()), tmp_path / "out")[0]["files"]

    said = CliRunner().invoke(app, [
        "finetune", "brain_tumor", str(my), "--encoder", "models:/brain-tumor-encoder@champion", "--epochs", "1",
        "--home", str(tmp_path / "again"), *[f"--set={key}={value}" for key, value in changes.items()],
    ])  # fmt: skip
    assert said.exit_code == 0, said.stderr
    lineage = open_model(Path(said.stdout.split("folder ")[1].strip())).info["lineage"]
    assert lineage["encoder_sha256"] == open_model(encoder.folder).info["sha256"]
    steps = -(-len(lineage["label_groups"]) // 2)
    assert steps > 1 and f"finetune: {steps} steps" in said.stdout
