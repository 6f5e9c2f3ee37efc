"""One training verb in a process of its own: a crash there is an exit code here, a stop here saves there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from domains.errors import Diverged, GateRefused, NothingUsable, Preempted, SelfsightError, UsageError
from domains.recipe import Recipe
from flows.devices import devices
from flows.stopping import PARENT, Stop

ERRORS: dict[int, type[SelfsightError]] = {
    kind.exit_code: kind for kind in (UsageError, NothingUsable, GateRefused, Preempted, Diverged)
}


def train_apart(verb: str, *options: str, recipe: Recipe, count: int, home: Path, stop: Stop) -> dict[str, Any]:
    """The JSON answer of `selfsight VERB RECIPE OPTIONS`, run in its own session with its stderr passed through.

    Where there are GPUs, it holds `count` of them.

    Raises:
        SelfsightError: of the type that the trainer's exit code stands for, with the trainer's message.
    """
    stop.check()
    command = [sys.executable, "-m", "flows.cli", verb, recipe.name, *options]
    root = str(Path(__file__).parents[1])
    with devices(count, stop) as visible:
        trainer = subprocess.Popen(
            [*command, "--home", str(home), "--recipe-file", "/dev/stdin", "--json"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | visible | {PARENT: str(os.getpid()), "PYTHONPATH": _with_root(root)},
        )  # fmt: skip
        with stop.forwarding_to(trainer):
            answer = _last_json(trainer.communicate(recipe.to_yaml())[0])
    if trainer.returncode == 0:
        stop.check()
        return answer
    if trainer.returncode < 0 and stop.asked():
        raise Preempted(f"{verb} was stopped; its last checkpoint is kept, the same command goes on")
    kind = ERRORS.get(trainer.returncode, SelfsightError)
    by = f"signal {-trainer.returncode}" if trainer.returncode < 0 else f"exit code {trainer.returncode}"
    hint = "; the system may have run out of memory" if trainer.returncode == -9 else ""
    raise kind(answer.get("error") or f"{verb} ended by {by}{hint}; its last checkpoint is kept")


def _with_root(root: str) -> str:
    return os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)


def _last_json(text: str) -> dict[str, Any]:
    """The answer in the last line; a trainer that was killed gave none."""
    lines = text.strip().splitlines()
    return dict(json.loads(lines[-1])) if lines and lines[-1].startswith("{") else {}
