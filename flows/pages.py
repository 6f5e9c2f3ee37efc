"""The pages of a home: index of reports, MLflow, Prefect; on loopback only, until somebody stops them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from domains.errors import SelfsightError
from flows.guard import LOOPBACK, guarded, password_file, refuse_other_addresses
from flows.stopping import die_with_this_parent, owning_signals

LEAVE_SECONDS = 10.0


def show_pages(home: Path) -> None:
    """Serves them and prints their addresses; returns on SIGTERM or Ctrl-C. What the environment names is linked only.

    Raises:
        SelfsightError: one of the servers does not start or ends.
        UsageError: the environment asks for another address than loopback.
    """
    refuse_other_addresses()
    addresses: dict[str, str] = {}
    servers: dict[str, subprocess.Popen[str]] = {}
    with owning_signals() as stop:
        try:
            for name, start in (("MLflow", _mlflow), ("Prefect", _prefect)):
                addresses[name], server = start(home)
                if server is not None:
                    servers[name] = server
            with _index(home, addresses) as index:
                waiting = list(servers)
                print(f"reports {index}", flush=True)
                while not stop.asked():
                    for name in [name for name in waiting if _answers(addresses[name])]:
                        waiting.remove(name)
                        print(f"{name:<7} {addresses[name]}", flush=True)
                        if not waiting:
                            print(f"Prefect asks for what is in {password_file(home)}; Ctrl-C ends all", flush=True)
                    for name, server in servers.items():
                        if server.poll() is not None and not stop.asked():
                            raise SelfsightError(
                                f"{name}'s server ended with code {server.returncode}; its log is {_log(home, name)}"
                            )
                    time.sleep(0.2)
        finally:
            for server in servers.values():
                _end(server)


def _mlflow(home: Path) -> tuple[str, subprocess.Popen[str] | None]:
    """Address and process; no process where the home is tracked by a server that runs elsewhere."""
    from pipelines.tracking import tracking_uri

    uri = tracking_uri(home)
    if uri.startswith("http"):
        place = urlsplit(uri)
        return place._replace(netloc=place.netloc.rpartition("@")[2]).geturl(), None  # without user and password
    # as a setting and not as a word of the command, which every user of the machine may read
    settings = {"MLFLOW_BACKEND_STORE_URI": uri}
    return _serve("mlflow", "server", "--workers", "1", settings=settings, port=_free_port(), log=_log(home, "MLflow"))


def _prefect(home: Path) -> tuple[str, subprocess.Popen[str] | None]:
    """The same. The server that runs share has no pages; this one reads the same database."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url.removesuffix("/api"), None
    port = _free_port()
    settings = guarded(home, f"http://{LOOPBACK}:{port}")
    return _serve("prefect", "server", "start", settings=settings, port=port, log=_log(home, "Prefect"))


def _log(home: Path, name: str) -> Path:
    return home / "ui" / f"{name.lower()}.log"


def _serve(*words: str, settings: dict[str, str], port: int, log: Path) -> tuple[str, subprocess.Popen[str]]:
    command = [sys.executable, "-m", *words, "--host", LOOPBACK, "--port", str(port)]
    here = os.getpid()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as output:
        started = subprocess.Popen(
            command, start_new_session=True, text=True, env=os.environ | settings, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, preexec_fn=lambda: die_with_this_parent(here),
        )  # fmt: skip
    return f"http://{LOOPBACK}:{port}", started


def _answers(address: str) -> bool:
    """Whether somebody listens there."""
    place = urlsplit(address)
    with suppress(OSError), socket.create_connection((place.hostname or LOOPBACK, place.port or 80), timeout=1):
        return True
    return False


def _end(server: subprocess.Popen[str]) -> None:
    """Ends a server and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=LEAVE_SECONDS)


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def _index(home: Path, servers: dict[str, str]) -> Iterator[str]:
    """The address of the index of reports; shows reports and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            from pipelines.report_index import find_reports, index_page

            if self.headers.get("Host") not in hosts:  # a name that somebody made lead here
                return self.send_error(403)
            asked = unquote(urlsplit(self.path).path).removeprefix("/")
            files = {report.address: report.file for report in find_reports(home)}
            if asked and asked not in files:  # a path is looked up, never followed
                return self.send_error(404)
            page = files[asked].read_bytes() if asked else index_page(home, servers).encode()
            self.send_response(200)
            for name, value in (
                ("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page))),
                ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
            ):  # fmt: skip
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as serving:
        hosts = {f"{name}:{serving.server_port}" for name in (LOOPBACK, "localhost")}
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        try:
            yield f"http://{LOOPBACK}:{serving.server_port}"
        finally:
            serving.shutdown()
