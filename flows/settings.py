"""The home that everything lives under, and the environment that keeps Prefect and MLflow inside it and quiet."""

from __future__ import annotations

import os
from pathlib import Path

NAME = ".selfsight"


def find_home(given: Path | None = None) -> Path:
    """`given` (--home), `SELFSIGHT_HOME`, the nearest `.selfsight/` upward, or a new one in the working directory."""
    named = given or os.environ.get("SELFSIGHT_HOME")
    if named:
        home = Path(named).absolute()
    else:
        here = Path.cwd()
        home = next((folder / NAME for folder in (here, *here.parents) if (folder / NAME).is_dir()), here / NAME)
    home.mkdir(parents=True, exist_ok=True)
    ignore = home / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return home


def prepare_environment(home: Path) -> None:
    """Settings of the services, before either is imported. What the user has set stays, except where they live."""
    os.environ["SELFSIGHT_HOME"] = str(home)
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",  # a client without an address would start one without a password
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds; the least there is, and what `deployments` counts on
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",  # the command line tells of errors itself, once and without a traceback
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_MODEL_CATALOG_URI": "",  # otherwise fetched from the network
        "MPLBACKEND": "Agg",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
