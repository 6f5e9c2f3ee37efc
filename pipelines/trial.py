"""A registered version tried in a process of its own: loaded as MLflow does, pickles off, and timed on a subject."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from pipelines.gate import Trial

LONGEST_SECONDS = 900.0


def try_out(artifacts: Path, model: Path, subject: Path | None) -> Trial:
    """Loads the artifacts of a version and predicts twice on one subject; nothing of it touches this process.

    Args:
        artifacts: with `MLmodel`.
        model: the model folder in them.
        subject: entry in the store, or None.
    """
    root = str(Path(__file__).parents[1])
    environment = os.environ | {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONPATH": os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part),
    }
    command = [sys.executable, "-m", "pipelines.trial", str(artifacts), str(model), str(subject or "")]
    megabytes = (model / "weights.safetensors").stat().st_size / 1e6
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        return Trial(f"it did not load and predict twice in {LONGEST_SECONDS:.0f} s", None, 0, megabytes)
    if done.returncode != 0:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Trial(f"it does not load with pickles off: {why[0]}", None, 0, megabytes)
    told = json.loads(done.stdout.splitlines()[-1])
    return Trial("", told["seconds"], told["threads"], megabytes)


def main(artifacts: str, model: str, subject: str) -> None:
    """What runs in the other process; the last line of stdout is JSON."""
    import torch

    from pipelines.models import open_model, predictor
    from pipelines.registry import load_as_mlflow_does

    load_as_mlflow_does(Path(artifacts))
    seconds = None
    if subject:
        predict = predictor(open_model(Path(model)))
        predict(Path(subject))
        started = time.perf_counter()
        predict(Path(subject))
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
