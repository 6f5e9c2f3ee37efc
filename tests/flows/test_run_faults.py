"""A run that is stopped in the middle of a verb, or loses its Prefect server, ends as one that nothing happened to."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from xray_files import write_archive

from domains.domain import find_recipe
from domains.recipe import Recipe
from flows.steps import VERBS, Steps

ROOT = Path(__file__).resolve().parents[2]
CHANGES = {"data.max_crop": "32", "objective": "mae", "size": "tiny"} | {
    f"{verb}.{key}": value for verb in ("pretrain", "finetune")
    for key, value in {"steps": "2", "batch_size": "4", "warmup_steps": "1", "checkpoint_every": "50"}.items()
}  # fmt: skip
MIDDLE = {
    "evaluate": "pipelines.evaluate:without_nan:1",  # its run is in MLflow, the entry is not in the store
    "register": "mlflow:MlflowClient.set_registered_model_alias:2",  # the model is registered and no challenger yet
    "report": "pipelines.report:write_atomically:1",
}
LONGEST_SECONDS = 800
"""For one run on a busy machine; an idle one takes a thirtieth."""


class Case:
    """A home whose networks are trained, and what it looks like at the end of an undisturbed run."""

    def __init__(self, folder: Path) -> None:
        self.archive, self.home, self._kept = folder / "clinic", folder / "home", folder / "kept"
        self.key = folder / "key"
        self.recipe: Recipe = find_recipe("chest_xray")[1].changed(CHANGES)
        steps = Steps(self.recipe, self.archive, self.home, stop=None)
        write_archive(self.archive, 16)
        for verb in VERBS:
            if verb == "evaluate":
                shutil.copytree(self.home, self._kept)
            steps.do(verb)
        self.answer, self.end = steps.answer, self.state()

    def reset(self) -> None:
        """As it was before the evaluation. At the same path: MLflow's database has it in it."""
        shutil.rmtree(self.home)
        shutil.copytree(self._kept, self.home)

    def state(self) -> dict[str, Any]:
        """What must be there once and no more: entries, reports, runs, versions and aliases."""
        with sqlite3.connect(self.home / "mlflow.db") as database:
            asked = {
                "runs": "select name, status from runs",
                "versions": "select v.name, v.version, r.name from model_versions v join runs r on run_uuid = run_id",
                "tags": "select name, version, key from model_version_tags",
                "aliases": "select name, alias, version from registered_model_aliases",
            }
            found = {what: sorted(database.execute(query).fetchall()) for what, query in asked.items()}
        entries = sorted(str(path.relative_to(self.home)) for path in (self.home / "store").glob("*/*"))
        weights = [json.loads(file.read_text())["sha256"] for file in sorted(self.home.glob("store/*/*/model.json"))]
        reports = sorted(file.name for file in (self.home / "reports").glob("*.html"))
        return found | {"entries": entries, "weights": weights, "reports": reports}

    def run(self, faults: str | None = None) -> tuple[int, dict[str, Any], str]:
        """Exit code, answer and stderr of `selfsight run`; no process of it is left."""
        program = [str(ROOT / "tests" / "faulty.py"), faults] if faults else ["-m", "flows.cli"]
        words = ["run", "chest_xray", str(self.archive), *(f"--set={key}={value}" for key, value in CHANGES.items())]
        left_out = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME")
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        done = subprocess.run(
            [sys.executable, *program, *words, "--home", str(self.home), "--json"], capture_output=True, text=True,
            env=environment | {"PYTHONPATH": str(ROOT), "SELFSIGHT_KEY": str(self.key)}, timeout=LONGEST_SECONDS,
        )  # fmt: skip
        left = [process.cmdline() for process in psutil.process_iter() if self._names_home(process)]
        assert left == [] and "Traceback" not in done.stderr, done.stderr
        assert done.stderr.count("fault in ") == (faults.count(",") + 1 if faults else 0), done.stderr
        return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr

    def _names_home(self, process: psutil.Process) -> bool:
        try:
            return str(self.home) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def assert_whole(self, answer: dict[str, Any]) -> None:
        """The answer, the registry, the store and the runs are those of the undisturbed run."""
        assert json.loads(json.dumps(self.answer)) == {key: answer[key] for key in self.answer}
        assert self.state() == self.end


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as own:
        own.setenv("SELFSIGHT_KEY", str(folder / "key"))
        yield Case(folder)


@pytest.fixture
def case(made: Case) -> Case:
    made.reset()
    return made


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", MIDDLE)
def test_run__stopped_in_the_middle_of_a_verb__the_same_command_finishes(case: Case, verb: str) -> None:
    code, answer, said = case.run(f"stop:{MIDDLE[verb]}")
    assert code == answer["exit_code"] == 75, said
    assert case.state() != case.end
    code, answer, said = case.run()
    assert code == 0, said
    case.assert_whole(answer)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_run__server_killed_before_the_first_task_and_in_the_last(case: Case) -> None:
    code, answer, said = case.run("server:flows.run:_as_flow:1,server:pipelines.report:write_atomically:1")
    assert code == 0, said
    assert said.count("the Prefect server is gone and is started again") == 2
    case.assert_whole(answer)
