"""`selfsight run`: from a folder to a report, from the store the second time, and stoppable at any moment."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from dicom_files import NAMES, WHOLE, plant, write_series

from domains.errors import NothingUsable, Preempted, Unreachable
from flows.tasks import transient

ROOT = Path(__file__).resolve().parents[2]
PLANTED = "DOE_JANE_19700101"


def changes(steps: int) -> list[str]:
    few = {"steps": steps, "batch_size": 2, "warmup_steps": 1, "checkpoint_every": 50}
    return [f"--set={verb}.{key}={value}" for verb in ("pretrain", "finetune") for key, value in few.items()]


def start(*words: object, home: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows.cli", *map(str, words), "--home", str(home), "--json"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def left_over(home: Path) -> list[list[str]]:
    """Command lines that still name the home."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    from domains.domain import find_recipe

    folder = tmp_path_factory.mktemp(PLANTED) / "generated_heads"
    find_recipe("brain_tumor")[0].generate(folder, 10, 0)
    return folder


def test_transient__only_faults_of_disk_or_network_are_tried_again():
    assert transient(OSError(errno.EIO, "input/output error"))
    assert transient(ConnectionResetError(errno.ECONNRESET, "reset"))
    assert transient(Unreachable("the tracking server does not answer"))
    for error in (FileNotFoundError(errno.ENOENT, "gone"), OSError(errno.ENOSPC, "full"), NothingUsable("x"),
                  Preempted("x"), ValueError("x"), None):  # fmt: skip
        assert not transient(error)


@pytest.mark.slow
def test_run__everything_then_everything_from_the_store(archive, tmp_path):
    home = tmp_path / "home"
    words = ("run", "brain_tumor", archive, *changes(4))
    out, err = (first := start(*words, home=home)).communicate(timeout=400)
    assert first.returncode == 0, err
    done = json.loads(out.splitlines()[-1])
    assert done["model"] == "models:/brain-tumor/1" and done["encoder"] == "models:/brain-tumor-encoder/1"
    assert Path(done["report"]).is_file() and done["trivial"]["metrics"]["dice"]
    assert done["ingest"]["found"] > 0 and done["cached"] is False
    assert left_over(home) == []
    database = home / "prefect" / "prefect.db"
    before = database.stat().st_mtime_ns
    out, err = (second := start(*words, home=home)).communicate(timeout=100)
    assert second.returncode == 0, err
    again = json.loads(out.splitlines()[-1])
    assert again["cached"] is True and again["model"] == done["model"] and again["metrics"] == done["metrics"]
    assert database.stat().st_mtime_ns == before
    for file in home.rglob("*"):
        assert PLANTED not in file.name
        assert not file.is_file() or PLANTED.encode() not in file.read_bytes(), file


def write_export(folder: Path, patients: int) -> None:
    """A PACS export of generated heads: a FLAIR series and a reader's SEG each, with names everywhere."""
    from domains.medical.dicom.seg import write_seg
    from domains.medical.generate import draw_patient

    for number in range(patients):
        made = draw_patient(number, 0)
        study = folder / f"DOE^JANE {number}" / "Jane Doe"
        flair, mask = (
            array[:, ::-1, ::-1] for array in (made.flair, made.mask)
        )  # from left and front, as DICOM has it
        uids = {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1"}
        paths = write_series(study, np.ascontiguousarray(flair), BitsStored=16, HighBit=15, PatientID=f"{number}",
                             **uids, **WHOLE)  # fmt: skip
        write_seg(study / "Jane Doe.dcm", mask.transpose(2, 1, 0), paths, ["tumor"])
        plant([*paths, study / "Jane Doe.dcm"])


@pytest.mark.slow
def test_run__names_in_a_dicom_export_stay_outside(tmp_path):
    home, source = tmp_path / "home", tmp_path / "DOE^JANE"
    write_export(source, 10)
    running = start("run", "brain_tumor", source, *changes(2), home=home)
    out, err = running.communicate(timeout=400)
    assert running.returncode == 0, err
    done = json.loads(out.splitlines()[-1])
    assert done["ingest"]["labels"] == 10 and done["ingest"]["accepted"] == done["ingest"]["found"] - 10
    files = [file for file in home.rglob("*") if file.is_file()]
    assert {"mlflow.db", "prefect.db"} < {file.name for file in files}
    for name in NAMES:
        assert name not in out, name
        assert [file for file in files if name.encode() in file.read_bytes() or name in str(file)] == [], name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run__stopped_in_training_saves_exits_75_and_goes_on(archive, tmp_path, number):
    home = tmp_path / "home"
    running = start("run", "brain_tumor", archive, *changes(100_000), home=home)
    wait_for(lambda: list((home / "runs").glob("pretrain-*/checkpoints/*")), running)
    running.send_signal(number)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 75, err
    assert json.loads(out.splitlines()[-1])["exit_code"] == 75
    assert left_over(home) == []
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 3, 7, 12])
def test_run__stopped_in_any_phase_exits_75_at_once(archive, tmp_path, seconds):
    home = tmp_path / "home"
    running = start("run", "brain_tumor", archive, *changes(100_000), home=home)
    assert running.stderr.readline().startswith("home:")
    time.sleep(seconds)
    running.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    err = running.communicate(timeout=120)[1]
    assert running.returncode == 75, err
    assert time.monotonic() - asked < 30
    assert left_over(home) == []


@pytest.mark.slow
def test_run__killed_takes_its_trainer_and_server_with_it(archive, tmp_path):
    home = tmp_path / "home"
    running = start("run", "brain_tumor", archive, *changes(100_000), home=home)
    wait_for(lambda: list((home / "runs").glob("pretrain-*/checkpoints/*")), running)
    running.kill()
    running.communicate(timeout=120)  # the trainer holds the other end of stderr
    deadline = time.monotonic() + 60
    while left_over(home):
        assert time.monotonic() < deadline, left_over(home)
        time.sleep(0.2)


def wait_for(condition, running: subprocess.Popen[str], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
