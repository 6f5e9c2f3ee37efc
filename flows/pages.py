"""MLflow's and Prefect's pages, on loopback only and with job execution off, until somebody stops them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from domains.errors import SelfsightError
from flows.server import shared_server
from flows.stopping import owning_signals


def show_pages(home: Path) -> None:
    """Serves both and prints their addresses; returns on SIGTERM or Ctrl-C.

    Raises:
        SelfsightError: one of them does not start or ends.
    """
    from pipelines.tracking import tracking_uri

    port = _free_port()
    with owning_signals() as stop, shared_server(home, stopping=stop.asked) as prefect_url:
        mlflow = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri(home),
             "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            start_new_session=True, text=True,
        )  # fmt: skip
        print(f"Prefect {prefect_url.removesuffix('/api')}\nMLflow  http://127.0.0.1:{port}\nCtrl-C ends both")
        try:
            with stop.forwarding_to(mlflow):
                while mlflow.poll() is None and not stop.asked():
                    time.sleep(0.2)
                if not stop.asked():
                    raise SelfsightError(f"MLflow's server ended with code {mlflow.returncode}")
                mlflow.wait(timeout=10)
        finally:
            mlflow.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
