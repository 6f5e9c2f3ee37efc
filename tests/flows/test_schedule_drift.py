"""A drift alarm under a schedule starts a run by itself, and that run's training outlives the Prefect server."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import nibabel
import numpy as np
import pytest
from processes_of_home import LONGEST_WAIT_SECONDS, SHORT, encoders, processes, rows, runs, start, wait_for

from domains.domain import find_recipe

NEVER = "0 0 29 2 *"


def write_noisy(folder: Path, into: Path) -> None:
    """The patients of one folder from another scanner: noise of half a deviation, and no unit of their spacing."""
    draw = np.random.default_rng(0)
    for patient in sorted(folder.glob("case_*")):
        file = patient / "flair.nii.gz"
        image = nibabel.load(file)
        values = np.asarray(image.dataobj, dtype=np.float32)
        noisy = values + draw.normal(0, values.std() / 2, values.shape)
        nibabel.save(nibabel.Nifti1Image(noisy.clip(0).astype(np.int16), image.affine), file)
        shutil.move(patient, into / f"new_{patient.name}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_schedule__drift_alarm_starts_a_run__which_loses_the_server_in_training(tmp_path: Path) -> None:
    home, quiet, source, log = (tmp_path / name for name in ("home", "quiet", "scans", "log"))
    generate = find_recipe("brain_tumor")[0].generate
    generate(source, 9, 0)
    generate(tmp_path / "more", 6, 5)
    before = [start("run", "brain_tumor", source, "--home", one, *SHORT, log=log) for one in (home, quiet)]
    assert [one.wait(LONGEST_WAIT_SECONDS) for one in before] == [0, 0], log.read_text()
    write_noisy(tmp_path / "more", source)

    crons = ("--cron", NEVER, "--drift-cron", "* * * * *")
    schedule = start("schedule", "brain_tumor", source, *crons, "--home", home, *SHORT, log=log)
    again = "runs/pretrain-*/checkpoints/step-*"
    known = set(home.glob(again))
    wait_for(lambda: set(home.glob(again)) - known, "the alarm's training", schedule)
    assert runs(home, "RUNNING", "nightly") == 1 and len(encoders(home)) == 1
    trainers = processes(home, "pretrain")
    assert processes(home, "uvicorn") == [], "Prefect's client has started a server of its own"
    os.kill(json.loads((home / "prefect" / "server.json").read_text())["pid"], signal.SIGKILL)
    wait_for(lambda: runs(home, "RUNNING", "nightly") == 0, "the run", schedule)
    assert runs(home, "COMPLETED", "nightly") == 1, log.read_text()
    assert "the Prefect server is gone and is started again" in log.read_text()
    taken = "select sum(active_slots) from concurrency_limit_v2"
    wait_for(lambda: rows(home, taken) == [(0,)], "every slot to be free again", schedule)

    schedule.send_signal(signal.SIGTERM)
    assert schedule.wait(LONGEST_WAIT_SECONDS) == 0, log.read_text()
    assert len(trainers) == 1 and processes(home, "flows.server", "flows.worker", "pretrain", "finetune") == []
    started = "select count(*) from flow_run_state where type = 'RUNNING' group by flow_run_id"
    assert {count for (count,) in rows(home, started)} == {1}, "a run was started twice"
    assert len(list(home.glob("store/finetune/*/entry.json"))) == 2  # and its model was made

    for words in (("ingest", "brain_tumor", source), ("pretrain", "brain_tumor", "--continue")):
        assert start(*words, "--home", quiet, *SHORT, log=log).wait(LONGEST_WAIT_SECONDS) == 0, log.read_text()
    first, second = encoders(home)
    assert second["lineage"]["continued_from_sha256"] == first["sha256"]
    assert not second["outcome"]["resumed_at"], "the training began again"
    assert [one["sha256"] for one in encoders(quiet)] == [first["sha256"], second["sha256"]]
