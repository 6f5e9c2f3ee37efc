"""The verbs of a run, without Prefect: what they hand on, and what they say that they do not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from domains.domain import find_recipe
from flows import steps
from flows.cli import app
from flows.looking import summary
from flows.steps import Steps
from flows.stopping import Stop
from pipelines.finetune import notes
from pipelines.ingest import ingest
from pipelines.pretrain import pretrain

FEW = {f"{verb}.{key}": value for verb in ("pretrain", "finetune")
       for key, value in {"steps": "1", "batch_size": "2", "warmup_steps": "0"}.items()}  # fmt: skip
SAID = "devices=2 is for pretraining: fine-tuning takes 1"


@pytest.mark.usefixtures("calm")
def test_finetune__two_devices__takes_one_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain, recipe = find_recipe("brain_tumor")
    recipe, home = recipe.changed(FEW | {"objective": "mae", "size": "tiny"}), tmp_path / "home"
    assert domain.generate is not None
    domain.generate(tmp_path / "heads", 6, 0)
    manifest = str(ingest(tmp_path / "heads", recipe, home).manifest)
    encoder = str(pretrain(recipe, home).folder)
    asked = []

    def trained_here(verb: str, *options: str, count: int, **_: object) -> dict[str, str]:
        asked.append(count)
        words = [verb, recipe.name, *options, "--home", str(home), "--set=devices=2"]
        words += [f"--set={key}={value}" for key, value in (FEW | {"objective": "mae", "size": "tiny"}).items()]
        said = CliRunner().invoke(app, words)
        first, folder, *rest = said.stdout.splitlines()
        assert first == "finetune: 1 steps" and rest == [SAID], said.stderr
        return {"folder": folder.removeprefix("folder ")}

    monkeypatch.setattr(steps, "train_apart", trained_here)
    for stop in (Stop(), None):  # trained, then found in the store
        whole = Steps(recipe.changed({"devices": "2"}), tmp_path / "heads", home, stop)
        whole.answer = {"encoder_folder": encoder, "manifest": manifest, "notes": ["of the ingest"]}
        whole.do("finetune")
        assert whole.answer["notes"] == ["of the ingest", SAID]
    assert asked == [1]
    none = {"found": 0, "accepted": 0, "refused": 0, "labels": 0, "ignored": 0}
    nothing = {"mean": None, "low": None, "high": None, "n": 0}
    rest = {
        "ingest": none,
        "refused_files": [],
        "metrics": {"dice": nothing},
        "trivial": {"name": "", "metrics": {}},
        "model": "",
        "report": "",
    }
    assert summary(whole.answer | rest).count(SAID) == 1
    assert notes(recipe) == []
