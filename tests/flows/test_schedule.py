"""A schedule fires by itself, survives kills, does nothing twice, learns on from new files, and leaves no process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PLANTED = "DOE_JANE_19700101"
SHORT = [
    f"--set={change}"
    for change in (
        "size=tiny", "pretrain.steps=40", "pretrain.checkpoint_every=4", "pretrain.batch_size=2",
        "pretrain.warmup_steps=1", "finetune.steps=4", "finetune.batch_size=2", "finetune.warmup_steps=1",
    )
]  # fmt: skip
LONGEST_WAIT_SECONDS = 600
"""For one step on a busy machine; an idle one takes a tenth."""
HOLD = """
import os, sys
from pathlib import Path
from flows.settings import prepare_environment
home = Path(sys.argv[1])
prepare_environment(home)
from flows.server import shared_server
with shared_server(home) as url:
    os.environ["PREFECT_API_URL"] = url
    from prefect.client.orchestration import get_client
    from flows.deployments import watch_over_dead_runs
    with get_client(sync_client=True) as client:
        watch_over_dead_runs(client, within_seconds=45)  # the real limit would make the test a minute longer
    print("up", flush=True)
    sys.stdin.readline()
"""


def environment() -> dict[str, str]:
    left_out = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME")
    mine = {name: value for name, value in os.environ.items() if name not in left_out}
    return mine | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*words: object, log: Path) -> subprocess.Popen[bytes]:
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *map(str, words)], stdout=output, stderr=output, env=environment(),
            start_new_session=True,
        )  # fmt: skip


def wait_for(condition: Callable[[], object], what: str, *running: subprocess.Popen[bytes]) -> object:
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        assert all(process.poll() is None for process in running), f"ended while waiting for {what}"
        time.sleep(0.2)
    return found


def rows(home: Path, query: str) -> list[tuple]:
    """Of Prefect's database."""
    if not (database := home / "prefect" / "prefect.db").exists():
        return []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60) as connection:
        return connection.execute(query).fetchall()


def runs(home: Path, state: str) -> int:
    return rows(home, f"select count(*) from flow_run where state_type = '{state}'")[0][0]


def processes(home: Path, *words: str) -> list[psutil.Process]:
    """Those with a word in their command line, whose environment names the home."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("SELFSIGHT_HOME") == str(home) or str(home) in process.cmdline()
            if mine and process.status() != psutil.STATUS_ZOMBIE and any(w in process.cmdline() for w in words):
                found.append(process)
        except psutil.Error:
            continue
    return found


def encoders(home: Path) -> list[dict]:
    """What the encoders of a home say of themselves, oldest first."""
    files = (home / "store" / "pretrain").glob("*/model.json")
    return [json.loads(file.read_text()) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]


def digests(home: Path) -> list[str]:
    """Of every network in the store."""
    files = (home / "store").glob("*/*/model.json")
    return sorted(json.loads(file.read_text())["sha256"] for file in files)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    from domains.domain import find_recipe

    folder = tmp_path / PLANTED / "scans"
    find_recipe("brain_tumor")[0].generate(folder, 9, 0)
    shutil.move(folder / "case_001", tmp_path / "later")  # a patient of the development set
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_schedule__killed_in_training_goes_on_by_itself_and_nothing_is_done_twice(source: Path, tmp_path: Path) -> None:
    home, quiet, log = tmp_path / "home", tmp_path / "quiet", tmp_path / "log"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "up\n"
    words = ("schedule", "brain_tumor", source, "--every", 15, "--home", home, *SHORT)
    first = start(*words, log=log)
    wait_for(lambda: list(home.glob("runs/pretrain-*/checkpoints/step-*")), "a checkpoint", first)
    doomed = [first.pid, *(one.pid for one in processes(home, "flows.worker", "flows.flow_process", "pretrain"))]
    assert len(doomed) == 4
    for pid in reversed(doomed):  # trainer, flow, worker, schedule
        os.kill(pid, signal.SIGKILL)
    first.wait()
    assert encoders(home) == [] and runs(home, "RUNNING") == 1  # Prefect has not noticed

    undisturbed = [start("run", "brain_tumor", source, "--home", quiet, *SHORT, log=log) for _ in range(2)]
    two = [start("schedule", "--home", home, log=log) for _ in range(2)]
    wait_for(lambda: runs(home, "CRASHED") == 1, "the dead run to be noticed", *two)
    wait_for(lambda: runs(home, "COMPLETED") >= 1, "the next run", *two)
    assert [one.wait(LONGEST_WAIT_SECONDS) for one in undisturbed] == [0, 0], log.read_text()
    (encoder,) = encoders(home)
    assert encoder["outcome"]["resumed_at"], "it began again instead of going on"
    assert digests(home) == digests(quiet), log.read_text()

    shutil.move(tmp_path / "later", source / "case_001")
    wait_for(lambda: len(list(home.glob("runs/pretrain-*/checkpoints"))) == 2, "the new patient to be trained on", *two)
    for one in two:
        one.send_signal(signal.SIGTERM)
    assert [one.wait(LONGEST_WAIT_SECONDS) for one in two] == [0, 0], log.read_text()
    assert processes(home, "flows.worker", "flows.flow_process", "pretrain", "finetune") == []
    third = start("schedule", "--home", home, log=log)
    wait_for(lambda: len(encoders(home)) == 2, "the encoder of all patients", third)
    wait_for(lambda: len(list(home.glob("store/finetune/*/entry.json"))) > 1, "its model", third)
    third.send_signal(signal.SIGINT)
    assert third.wait(LONGEST_WAIT_SECONDS) == 0, log.read_text()
    old, new = encoders(home)
    assert new["lineage"]["continued_from_sha256"] == old["sha256"] == encoder["sha256"]
    started = "select count(*) from flow_run_state where type = 'RUNNING' group by flow_run_id"
    assert {count for (count,) in rows(home, started)} == {1}, "a run was started twice"
    holder.communicate("\n")
    wait_for(lambda: not processes(home, "flows.server", "flows.worker", "flows.flow_process"), "all to be gone")
    assert_no_name_inside(home)


def assert_no_name_inside(home: Path) -> None:
    for file in home.rglob("*"):
        assert PLANTED not in file.name
        assert not file.is_file() or PLANTED.encode() not in file.read_bytes(), file
    shown = [key for (key,) in rows(home, "select key from artifact")]
    assert {"brain-tumor-progress", "brain-tumor-figures", "brain-tumor-page"} <= set(shown)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_doctor__a_schedule_fires_and_a_dead_scheduler_is_found(tmp_path: Path) -> None:
    check = (
        "from flows.stopping import owning_signals; from flows.schedule_check import prove_that_schedules_fire\n"
        "with owning_signals() as stop: prove_that_schedules_fire(stop, within_seconds=8)"
    )
    broken = subprocess.Popen(
        [sys.executable, "-c", check], stderr=subprocess.PIPE, text=True,
        env=environment() | {"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    command = [sys.executable, "-m", "flows.cli", "doctor", "--schedule", "--json", "--home", str(tmp_path / "home")]
    works = subprocess.run(command, capture_output=True, text=True, env=environment() | {"TMPDIR": str(tmp_path)})
    assert works.returncode == 0, works.stderr
    found = json.loads(works.stdout.splitlines()[-1])
    assert found["problems"] == [] and 0 < found["fired_seconds"] < 120
    said = broken.communicate(timeout=LONGEST_WAIT_SECONDS)[1]
    assert broken.returncode == 1 and "schedules do not fire" in said and "sqlalchemy<2.1" in said
    assert list(tmp_path.glob("selfsight-doctor-*")) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_prefect_yaml__deploys_to_a_server_as_it_is_and_its_worker_finds_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    script = (ROOT / "tests" / "flows" / "server_elsewhere.py").read_text()
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)], cwd=ROOT, capture_output=True, text=True,
        env=environment() | {"SELFSIGHT_SOURCES": str(tmp_path / "empty")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    deployed = rows(home, "select f.name, d.name, d.parameters, d.pull_steps, d.entrypoint from deployment d join flow f on f.id = d.flow_id")  # fmt: skip  # noqa: E501
    recipes = {"brain_tumor", "hippocampus", "chest_xray", "dashcam_lanes", "dashcam_obstacles", "road_scene"}
    assert {(flow, name) for flow, name, *_ in deployed} == {
        (f, name) for f in ("nightly", "drift") for name in recipes
    }
    for flow, name, parameters, pull, entrypoint in deployed:
        assert json.loads(parameters) == {"schedule": name} and entrypoint == f"flows.scheduled.{flow}"
        assert str(ROOT) not in pull  # no folder of the machine that deploys
    assert rows(home, "select count(*) from deployment_schedule where active") == [(12,)]
    assert rows(home, "select name, enabled from automation") == [("crash zombies", 1)]
    failed = rows(home, "select s.message from flow_run r join flow_run_state s on r.state_id = s.id where r.state_type = 'FAILED'")  # fmt: skip  # noqa: E501
    assert len(failed) == 1 and "ingest: UsageError" in failed[0][0]  # it looked for SELFSIGHT_SOURCES/brain_tumor
