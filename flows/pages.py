"""MLflow's and Prefect's pages, on loopback only and with job execution off, until somebody stops them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from domains.errors import SelfsightError
from flows.stopping import owning_signals

LEAVE_SECONDS = 10.0


def show_pages(home: Path) -> None:
    """Serves both and prints their addresses; returns on SIGTERM or Ctrl-C.

    Raises:
        SelfsightError: one of them does not start or ends.
    """
    from pipelines.tracking import tracking_uri

    mlflow_port, prefect_port = _free_port(), _free_port()
    mlflow_words = ("mlflow", "server", "--backend-store-uri", tracking_uri(home), "--workers", "1")
    # The server that runs share has no pages; this one reads the same database.
    guarded = {
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{prefect_port}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{prefect_port}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }
    with owning_signals() as stop:
        servers = {
            "Prefect": _serve("prefect", "server", "start", port=prefect_port, settings=guarded),
            "MLflow": _serve(*mlflow_words, port=mlflow_port, settings={}),
        }
        print(f"Prefect http://127.0.0.1:{prefect_port}\nMLflow  http://127.0.0.1:{mlflow_port}\nCtrl-C ends both")
        try:
            while not stop.asked():
                for name, server in servers.items():
                    if server.poll() is not None and not stop.asked():
                        raise SelfsightError(f"{name}'s server ended with code {server.returncode}")
                time.sleep(0.2)
        finally:
            for server in servers.values():
                _end(server)


def _serve(*words: str, port: int, settings: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *words, "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(command, start_new_session=True, text=True, env=os.environ | settings)


def _end(server: subprocess.Popen[str]) -> None:
    """Ends a server and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=LEAVE_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
