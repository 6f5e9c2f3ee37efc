"""Seconds of `registry`, `resolve` and `lineage` with 1,000 runs and 300 versions in the home, against an empty one.

The runs have parameters, metrics and artifacts' folders as trainings leave them; the versions are spread over six
names. Each figure is the least of three in one process; beside it the same through runs, as no index would have it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipelines.checkpoint import write_model
from pipelines.lineage import made_by
from pipelines.registry import find_version, list_models, register_model, resolve
from pipelines.tracking import client, experiment_id

RUNS, VERSIONS, NAMES = 1000, 300, 6
POINTS = 20
LINEAGE: dict[str, Any] = {
    "manifest": "0" * 32, "labels": None, "encoder": None, "encoder_sha256": None, "pretrain_groups": [],
    "label_groups": ["0123456789abcdef"], "label_digests": [], "sources": {"origin": "generated"},
}  # fmt: skip


def run() -> dict[str, Any]:
    """Seconds of each question in a home of one version and in a full one, and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        few, full = (_home(Path(name) / which, *size) for which, size in
                     (("few", (1, 1, 1)), ("full", (RUNS, VERSIONS, NAMES))))  # fmt: skip
        result: dict[str, Any] = {"runs": RUNS, "versions": VERSIONS}
        for question, ask in _questions().items():
            seconds = [_least(ask, home) for home in (few, full)]
            result[question] = {
                "one_version": seconds[0],
                "full": seconds[1],
                "ratio": round(seconds[1] / seconds[0], 1),
            }
        result["reading_every_run"] = _least(_every_run, full)
    return result


def _questions() -> dict[str, Callable[[Path], object]]:
    return {
        "registry_all": list_models,
        "registry_of_a_name": lambda home: list_models(home, "model-0"),
        "find_by_alias": lambda home: find_version(home, "models:/model-0@champion"),
        "resolve": lambda home: resolve(home, "models:/model-0@champion"),
        "lineage": lambda home: made_by("models:/model-0@champion", home),
    }


def _home(home: Path, runs: int, versions: int, names: int) -> Path:
    """A home with that many runs and versions, made by MLflow's client; the last version of a name is its champion."""
    mlflow = client(home)
    from mlflow.entities import Metric, Param

    experiment = experiment_id(mlflow, "bench", home)
    ids = []
    for number in range(runs):
        run_id = mlflow.create_run(experiment, tags={"key": str(number)}).info.run_id
        points = [Metric("loss", 1.0 / (step + 1), step, step) for step in range(POINTS)]
        mlflow.log_batch(run_id, metrics=points, params=[Param(f"p{n}", str(number)) for n in range(20)])
        ids.append(run_id)
    folder = home / "model"
    for number in range(versions):
        name = f"model-{number % names}"
        write_model(folder, {"w": torch.full((3,), float(number))}, {"kind": "model", "lineage": LINEAGE,
                                                                      "recipe": {"name": "bench"}})  # fmt: skip
        if number >= versions - names:  # whose artifacts are looked at
            register_model(home, name, folder, run_id=ids[number % runs], alias="champion", tags={}, description="")
        else:
            if number < names:
                mlflow.create_registered_model(name)
            tags = {"weights_sha256": str(number), "primary": "dice", "mean": "0.8", "evaluation": str(number)}
            mlflow.create_model_version(name, f"{home.as_uri()}/none", ids[number % runs], tags=tags)
    return home


def _every_run(home: Path) -> int:
    mlflow = client(home)
    runs, token = 0, None
    while True:
        page = mlflow.search_runs([e.experiment_id for e in mlflow.search_experiments()], page_token=token)
        runs, token = runs + len(page), page.token
        if not token:
            return runs


def _least(ask: Callable[[Path], object], home: Path) -> float:
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        ask(home)
        seconds.append(time.perf_counter() - started)
    return round(min(seconds), 4)


if __name__ == "__main__":
    print(json.dumps(run()))
