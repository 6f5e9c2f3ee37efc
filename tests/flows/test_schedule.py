"""A schedule fires by itself, survives kills, does nothing twice, learns on from new files, and leaves no process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes_of_home import (
    LONGEST_WAIT_SECONDS,
    SHORT,
    digests,
    encoders,
    environment,
    processes,
    rows,
    runs,
    start,
    wait_for,
)

ROOT = Path(__file__).resolve().parents[2]
PLANTED = "DOE_JANE_19700101"
HOLD = """
import sys
from pathlib import Path
from flows.settings import prepare_environment
home = Path(sys.argv[1])
prepare_environment(home)
from flows.server import shared_server
with shared_server(home):
    from prefect.client.orchestration import get_client
    from flows.deployments import watch_over_dead_runs
    with get_client(sync_client=True) as client:
        watch_over_dead_runs(client, within_seconds=45)  # the real limit would make the test a minute longer
    print("up", flush=True)
    sys.stdin.readline()
"""


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
