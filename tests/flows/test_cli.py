"""The program as a person or a script meets it: what it says, where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app

ROOT = Path(__file__).resolve().parents[2]
FEW = [f"--set={verb}.{key}={value}" for verb in ("pretrain", "finetune")
       for key, value in {"steps": 4, "batch_size": 2, "warmup_steps": 1, "checkpoint_every": 2}.items()]  # fmt: skip
HEAVY = ("torch", "prefect", "mlflow", "monai", "matplotlib", "numpy", "pydantic", "lightning")


def selfsight(*words: object, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    options = ["--home", str(home)] if home else []
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, words), *options], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip


def answer(*words: object, home: Path) -> dict:
    done = selfsight(*words, "--json", home=home)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["schema_version"] == 1 and last["home"] == str(home)
    return last


@pytest.fixture
def here(monkeypatch):
    """The program in this process, where its imports are paid for once: the way to run it."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    from domains.domain import find_recipe

    folder = tmp_path_factory.mktemp("source") / "generated_heads"
    find_recipe("brain_tumor")[0].generate(folder, 10, 0)
    return folder


def test_import__costs_nothing_heavy():
    listing = f"import sys, flows.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_help__names_every_command():
    done = selfsight("--help")
    assert done.returncode == 0
    for command in ("ingest", "pretrain", "finetune", "evaluate", "register", "registry", "promote", "rollback",
                    "lineage", "predict", "score", "run", "demo"):  # fmt: skip
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("recipes", "brain_tumour"), "did you mean 'brain_tumor'?"),
        (("recipes", "brain_tumor", "--set", "pretrain.stepz=3"), "did you mean 'pretrain.steps'?"),
        (("recipes", "brain_tumor", "--set", "seed"), "KEY=VALUE"),
        (("ingest", "brain_tumor", "/no/such/folder"), "/no/such/folder"),
        (("pretrain", "brain_tumor"), "selfsight ingest brain_tumor SOURCE"),
        (("demo", "driven"), "demos are medical, driving"),
        (("whois", "0123456789abcdef"), "none of these ids"),
    ],
)
def test_usage_errors__exit_2_with_one_message_and_no_traceback(here, tmp_path, words, says):
    done = here(*words, "--home", tmp_path / "home")
    assert done.exit_code == 2
    assert says in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_usage_errors__traceback_on_request(here, tmp_path):
    os.environ["SELFSIGHT_DEBUG"] = "1"
    assert "Traceback" in here("recipes", "nope", "--home", tmp_path).stderr


def test_json__an_error_is_an_object_too(tmp_path):
    done = selfsight("recipes", "nope", "--json", home=tmp_path)
    said = json.loads(done.stdout)
    assert done.returncode == said["exit_code"] == 2
    assert "nope" in said["error"]


def test_json__what_libraries_print_does_not_reach_stdout(tmp_path):
    call = f"""
import os
from pathlib import Path
from flows.output import command
with command(Path({str(tmp_path)!r}), True) as c:
    print("noise")
    os.system("echo more noise")
    c.done({{"answer": 1}})
"""
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout) == {"schema_version": 1, "home": str(tmp_path), "answer": 1}
    assert "noise" in done.stderr and "more noise" in done.stderr


def test_unexpected_error__traceback_and_exit_1(tmp_path):
    call = f"""
from pathlib import Path
from flows.output import command
with command(Path({str(tmp_path)!r}), True) as c:
    1 / 0
"""
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert json.loads(done.stdout) == {"error": "ZeroDivisionError: division by zero", "exit_code": 1}


def test_recipes__yaml_is_a_recipe_file(here, tmp_path):
    printed = here("recipes", "brain_tumor", "--set", "seed=5", "--home", tmp_path)
    (tmp_path / "mine.yaml").write_text(printed.stdout)
    from flows.options import recipe_of

    assert recipe_of("brain_tumor", file=tmp_path / "mine.yaml").seed == 5
    assert recipe_of("brain_tumor", ["seed=6"], tmp_path / "mine.yaml").seed == 6


def test_with_epochs__passes_over_the_subjects_become_steps():
    from flows.options import recipe_of, with_epochs

    recipe = recipe_of("brain_tumor", ["pretrain.batch_size=16"])
    assert with_epochs(recipe, "pretrain", 3, subjects=20).pretrain.steps == 4
    assert with_epochs(recipe, "pretrain", None, subjects=20) == recipe


def test_ingest__nothing_usable_is_exit_3(here, tmp_path):
    (tmp_path / "source" / "p1").mkdir(parents=True)
    (tmp_path / "source" / "p1" / "p1_flair.nii.gz").write_bytes(b"not an image")
    done = here("ingest", "brain_tumor", tmp_path / "source", "--home", tmp_path / "home")
    assert done.exit_code == 3
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1


def test_dataset_check__says_what_is_there(archive, tmp_path):
    found = answer("dataset", "check", archive, home=tmp_path)
    assert found["subjects"] == 10 and found["labels"] == 10 and found["groups"] > 2


def test_doctor__has_versions_and_no_problem(tmp_path):
    found = answer("doctor", home=tmp_path)
    assert found["versions"]["prefect"] and found["devices"] and found["problems"] == []


@pytest.mark.slow
def test_verbs__one_after_the_other(archive, tmp_path):
    home = tmp_path / "home"
    assert answer("ingest", "brain_tumor", archive, "--dry-run", home=home)["seconds"] is None
    taken = answer("ingest", "brain_tumor", archive, home=home)
    assert taken["found"] == taken["accepted"] + taken["refused"] + taken["labels"] + taken["ignored"] > 0
    assert selfsight("finetune", "brain_tumor", home=home).returncode == 2  # nothing is pretrained yet
    assert answer("pretrain", "brain_tumor", *FEW, "--data", taken["manifest"], home=home)["cached"] is False
    assert answer("pretrain", "brain_tumor", *FEW, "--dry-run", home=home)["seconds"] > 0
    model = answer("finetune", "brain_tumor", *FEW, home=home)
    judged = answer("evaluate", model["folder"], home=home)
    assert {"mean", "low", "high", "n"} <= set(judged["metrics"]["dice"])
    assert judged["cases"] and Path(judged["report"]).is_file()
    registered = answer("register", judged["evaluation"], home=home)
    assert registered["model"] == "models:/brain-tumor/1"
    assert [m["uri"] for m in answer("registry", home=home)["models"]]
    image = next(f for f in sorted(archive.rglob("*flair*")) if f.is_file())
    said = answer("predict", registered["model"], image, "--out", tmp_path / "out", home=home)
    assert all(Path(file).is_file() for file in said["outputs"][0]["files"])
    known = answer("whois", judged["cases"][0]["subject_id"], home=home)
    assert str(archive) in next(iter(known["ids"].values()))


def test_stop__is_not_swallowed_by_a_library_that_swallows_errors(tmp_path):
    call = f"""
import os, signal
from pathlib import Path
from flows.output import command
with command(Path({str(tmp_path)!r}), True) as c:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Exception:
        pass
    c.done({{}})
"""
    for environment in ({}, {"SELFSIGHT_PARENT": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", call], capture_output=True, text=True, cwd=ROOT, env=os.environ | environment
        )
        assert done.returncode == 75, done.stderr
