"""A script: `selfsight`, where the n-th call of a function meets a fault. FAULT:MODULE:FUNCTION:N,... WORDS..."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def stop() -> None:
    """SIGTERM to this process; the work that the call belongs to takes no notice of it."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)


def kill() -> None:
    """kill -9 of this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def server() -> None:
    """kill -9 of the home's Prefect server; the work goes on."""
    address = json.loads((Path(os.environ["SELFSIGHT_HOME"]) / "prefect" / "server.json").read_text())
    os.kill(address["pid"], signal.SIGKILL)


def plant(fault: Callable[[], None], module: str, function: str, number: int) -> None:
    """From now on the `number`-th call of a function meets the fault first."""
    owner: Any = import_module(module)
    *inside, name = function.split(".")
    for part in inside:
        owner = getattr(owner, part)
    real, calls = getattr(owner, name), 0

    def faulty(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            print(f"fault in {function}", file=sys.stderr, flush=True)
            fault()
        return real(*given, **named)

    setattr(owner, name, faulty)


def main(faults: str, *words: str) -> None:
    from flows import cli, output

    prepare = output.prepare_environment

    def prepared(home: Path) -> None:
        prepare(home)  # before the libraries are imported that the faults are in
        for one in faults.split(","):
            fault, module, function, number = one.split(":")
            plant({"stop": stop, "kill": kill, "server": server}[fault], module, function, int(number))

    output.prepare_environment = prepared
    cli.app(args=list(words), prog_name="selfsight")


if __name__ == "__main__":
    main(*sys.argv[1:])
