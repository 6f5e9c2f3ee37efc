"""The Prefect server of a home: shared by every run on it, on loopback only, gone when the last one is."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from domains.errors import Preempted, SelfsightError
from flows.guard import LOOPBACK, auth_string, guarded, refuse_other_addresses

START_SECONDS = 300.0
"""A machine that has something better to do takes minutes for what an idle one does in ten seconds."""
LEASES_ON_DISK = "prefect.server.concurrency.lease_storage.filesystem"
"""Who holds which slot. Prefect's default is memory: a server that is killed leaves the slots taken, for ever."""
WATCH_SECONDS = 5.0


def never() -> bool:
    """Nobody asked to stop."""
    return False


@contextmanager
def shared_server(home: Path, *, stopping: Callable[[], bool] = never) -> Iterator[str]:
    """The API address of the home's server, started when there is none; `PREFECT_API_URL` wins over both.

    Inside, Prefect's client in this process and in those that it starts talks to that server.

    Every user holds a shared lock. Who gets it exclusively on leaving was the last one, and stops the server; when
    the last one was killed, the server itself does so: no address is ever stale for long, no server is orphaned.
    It asks for the home's password, which this process is given in its environment, as Prefect's client wants it.
    A server that dies meanwhile is started again at the same address, so that the clients' next tries reach it.

    Raises:
        SelfsightError: the server does not start; the text names its log.
        UsageError: the environment asks for another address than loopback.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        yield url
        return
    refuse_other_addresses()
    os.environ["PREFECT_API_AUTH_STRING"] = auth_string(home)
    with open(_lock(home, "users"), "a") as users:
        with _mutex(home, stopping):
            fcntl.flock(users, fcntl.LOCK_SH)
            url = running(home) or _start(home, stopping)
        left = threading.Event()
        keeper = threading.Thread(target=_keep_alive, args=(home, left), daemon=True)
        keeper.start()
        try:
            with _addressed(url):
                yield url
        finally:
            left.set()
            keeper.join()
            with _mutex(home, never):
                if _alone(users):
                    stop(home)


@contextmanager
def _addressed(url: str) -> Iterator[None]:
    """`PREFECT_API_URL` is `url`, also for a Prefect that was imported before and has read its settings."""
    os.environ["PREFECT_API_URL"] = url
    _settings_are_read_again()
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]
        _settings_are_read_again()


def _settings_are_read_again() -> None:
    if "prefect.context" in sys.modules:
        sys.modules["prefect.context"].refresh_global_settings_context()


def stop(home: Path) -> None:
    """Ends the home's server, if one runs."""
    import psutil

    address = _address(home)
    if address and _is_ours(home, address["pid"]):
        process = psutil.Process(address["pid"])
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            try:
                process.wait(timeout=10)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)
    _address_file(home).unlink(missing_ok=True)


def serve(home: Path) -> None:
    """Runs the server in this process until nobody uses it: what `python -m flows.server HOME` does."""
    listening = _listen(home)  # before anything else: no race for a port
    url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
    os.environ |= guarded(home, url) | {"PREFECT__SERVER_FINAL": "1"}
    os.environ["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] = LEASES_ON_DISK
    import uvicorn
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = create_app()  # one that is called ephemeral never runs a schedule
    # Around the app, not in it: automations call the app from inside, by another name, and would be turned away.
    doors = TrustedHostMiddleware(app, allowed_hosts=[LOOPBACK, "localhost"])
    server = uvicorn.Server(uvicorn.Config(doors, log_level="error", lifespan="on", timeout_graceful_shutdown=3))

    def watch() -> None:
        while not server.started:
            time.sleep(0.05)
        _write_private(_address_file(home), json.dumps({"url": f"{url}/api", "pid": os.getpid()}))
        with open(_lock(home, "users"), "a") as users:
            while not server.should_exit:
                time.sleep(WATCH_SECONDS)
                with _mutex(home, never):
                    if _alone(users):
                        _address_file(home).unlink(missing_ok=True)
                        server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
    server.run(sockets=[listening])


def _listen(home: Path) -> socket.socket:
    """At the port that the home's server had before, if it is free."""
    file = home / "prefect" / "port"
    before = int(file.read_text()) if file.exists() else 0
    try:
        listening = socket.create_server((LOOPBACK, before))
    except OSError:
        listening = socket.create_server((LOOPBACK, 0))
    file.write_text(str(listening.getsockname()[1]))
    return listening


def _keep_alive(home: Path, left: threading.Event) -> None:
    """Starts the server again when its process is gone, until `left` is set."""
    while not left.wait(WATCH_SECONDS / 5):
        if _lives(home):
            continue
        try:
            with _mutex(home, left.is_set):
                if not _lives(home):
                    print("the Prefect server is gone and is started again", file=sys.stderr, flush=True)
                    _start(home, left.is_set)
        except Preempted:  # nobody needs it any more
            return
        except SelfsightError as error:
            print(error, file=sys.stderr, flush=True)


def _lives(home: Path) -> bool:
    address = _address(home)
    return address is not None and _is_ours(home, address["pid"])


def _start(home: Path, stopping: Callable[[], bool]) -> str:
    stop(home)
    log = home / "prefect" / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as output:
        root = Path(__file__).parents[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(home)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])},
        )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while not stopping() and process.poll() is None and time.monotonic() < deadline:
        if (url := running(home)) is not None:
            threading.Thread(target=process.wait, daemon=True).start()  # reaps it whenever it ends
            return url
        time.sleep(0.1)
    process.kill()
    process.wait()
    if stopping():
        raise Preempted("stopped while the Prefect server was starting; the same command goes on")
    raise SelfsightError(f"the Prefect server did not start within {START_SECONDS:.0f} s; its log is {log}")


def running(home: Path) -> str | None:
    """The address of a server of this home that answers."""
    address = _address(home)
    if not address or not _is_ours(home, address["pid"]):
        return None
    try:
        with urllib.request.urlopen(f"{address['url']}/health", timeout=10) as answer:
            return str(address["url"]) if answer.status == 200 else None
    except OSError:
        return None


def _is_ours(home: Path, pid: int) -> bool:
    """Whether the process is a server of this home, not a stranger that got the number of a dead one."""
    import psutil

    try:
        return psutil.Process(pid).cmdline()[-2:] == ["flows.server", str(home)]
    except psutil.Error:
        return False


def _address(home: Path) -> dict | None:
    try:
        return dict(json.loads(_address_file(home).read_text()))
    except FileNotFoundError:
        return None


def _address_file(home: Path) -> Path:
    return home / "prefect" / "server.json"


def _lock(home: Path, name: str) -> Path:
    path = home / "locks" / f"prefect-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _mutex(home: Path, stopping: Callable[[], bool]) -> Iterator[None]:
    """One process at a time starts or stops the server; waiting for it can be given up."""
    with open(_lock(home, "server"), "a") as file:
        while not _try_lock(file):
            if stopping():
                raise Preempted("stopped while waiting for the Prefect server; the same command goes on")
            time.sleep(0.1)
        yield


def _alone(users: IO[str]) -> bool:
    """Whether nobody else holds the users' lock; keeps it exclusively if so."""
    return _try_lock(users)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    from flows.settings import prepare_environment

    prepare_environment(Path(sys.argv[1]))
    serve(Path(sys.argv[1]))
