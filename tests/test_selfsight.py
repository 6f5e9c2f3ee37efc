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


def test_finetune__a_registered_encoder_on_ones_own_folder(tmp_path):
    from domains.domain import find_recipe
    from pipelines.ingest import ingest
    from pipelines.pretrain import pretrain

    few = {"steps": "2", "batch_size": "2", "warmup_steps": "1"}
    domain, recipe = find_recipe("brain_tumor")
    recipe = recipe.changed({f"{verb}.{key}": value for verb in ("pretrain", "finetune") for key, value in few.items()})
    domain.generate(tmp_path / "my", 6, 0)
    ingest(tmp_path / "my", recipe, tmp_path / "home")
    encoder = selfsight.load(pretrain(recipe, tmp_path / "home").folder, home=tmp_path / "home")
    assert sum(p.numel() for p in encoder.encoder().parameters()) > 0
    model = encoder.finetune(tmp_path / "my", label_budget=2)
    outputs = model.predict(next((tmp_path / "my").rglob("*flair*")), tmp_path / "out")
    assert outputs[0]["files"]
