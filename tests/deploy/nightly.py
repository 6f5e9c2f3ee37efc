"""A flow that a schedule starts: `selfsight run` on an archive, as small as a run can be."""

import os
import subprocess
import sys

from prefect import flow

FEW = {"steps": 2, "batch_size": 2, "warmup_steps": 1, "checkpoint_every": 2}


@flow
def nightly() -> None:
    """Runs the command and fails when it fails."""
    short = [f"--set={verb}.{key}={value}" for verb in ("pretrain", "finetune") for key, value in FEW.items()]
    words = ["run", "brain_tumor", os.environ["ARCHIVES"], "--set", "size=tiny", *short, "--json"]
    subprocess.run([sys.executable, "-m", "flows.cli", *words], check=True)
