"""One Prefect server a home: shared, on loopback, gone with its last user."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from domains.errors import UsageError
from flows import server
from flows.guard import ELSEWHERE, auth_string, password_file
from flows.server import shared_server
from flows.settings import prepare_environment

HOLD = """
import sys, time
from pathlib import Path
from flows.settings import prepare_environment
from flows.server import shared_server
home = Path(sys.argv[1])
prepare_environment(home)
with shared_server(home) as url:
    print(url, flush=True)
    sys.stdin.readline()
"""


def holder(home: Path) -> subprocess.Popen[str]:
    """A process that uses the home's server until its stdin closes."""
    root = str(Path(__file__).parents[2])
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {"PYTHONPATH": root}
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


@contextmanager
def using(home: Path) -> Iterator[str]:
    """The address of the home's server while a process uses it."""
    user = holder(home)
    try:
        yield user.stdout.readline().strip()
    finally:
        user.communicate("\n", timeout=60)


def servers(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-2:] == ["flows.server", str(home)]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_shared_server__address_given_by_the_user_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    with shared_server(tmp_path) as url:
        assert url == "http://prefect.example/api"
    assert list(tmp_path.iterdir()) == []


def test_addressed__also_a_client_whose_settings_were_read_before__and_none_without(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    prepare_environment(tmp_path)
    from prefect.client.orchestration import get_client  # reads them

    with server._addressed("http://127.0.0.1:9/api"):
        assert str(get_client(sync_client=True).api_url) == "http://127.0.0.1:9/api/"
    with pytest.raises(ValueError, match="PREFECT_API_URL"):  # no server without a password is started
        get_client(sync_client=True)


def test_running__address_of_a_dead_process_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "prefect").mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for stranger in (dead.pid, os.getpid()):
        server._write_private(
            tmp_path / "prefect" / "server.json", f'{{"url": "http://127.0.0.1:9", "pid": {stranger}}}'
        )
        assert server.running(tmp_path) is None
        assert (tmp_path / "prefect" / "server.json").stat().st_mode & 0o077 == 0


def test_stop__leaves_a_stranger_with_the_same_number_alone(tmp_path):
    (tmp_path / "prefect").mkdir()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        server._write_private(tmp_path / "prefect" / "server.json", f'{{"url": "x", "pid": {stranger.pid}}}')
        server.stop(tmp_path)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_shared_server__another_address_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for name in ELSEWHERE:
        with monkeypatch.context() as asked:
            asked.setenv(name, "0.0.0.0")
            with pytest.raises(UsageError, match=rf"{name}=0\.0\.0\.0.*ssh -L"), shared_server(tmp_path):
                pass
    assert list(tmp_path.iterdir()) == []


def test_auth_string__one_for_a_home_and_readable_by_its_owner_only(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        strings = set(pool.map(lambda _: auth_string(tmp_path), range(8)))
    assert len(strings) == 1 and len(strings.pop()) > 40
    assert auth_string(tmp_path / "other") not in strings
    assert password_file(tmp_path).stat().st_mode & 0o077 == 0
    assert [file.name for file in (tmp_path / "prefect").iterdir()] == ["password"]


def status(url: str, home: Path | None = None, data: bytes | None = None, **headers: str) -> tuple[int, dict[str, str]]:
    """Code and headers of a request; with a home, it carries the home's password."""
    if home is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(auth_string(home).encode()).decode()}"
    asked = urllib.request.Request(url, data, headers | {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, dict(answer.headers.items())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers.items())


@pytest.mark.slow
def test_serve__strangers_foreign_pages_and_foreign_hosts_are_turned_away(tmp_path):
    with using(tmp_path) as url:
        assert status(f"{url}/admin/version", tmp_path)[0] == 200
        wrong = base64.b64encode(b"selfsight:made up").decode()
        for stranger in ({}, {"Authorization": f"Basic {wrong}"}):
            assert status(f"{url}/admin/version", **stranger)[0] == 401
            assert status(f"{url}/csrf-token?client=me", **stranger)[0] == 401  # and nothing is written without one
        flow = b'{"name": "made by a stranger"}'
        code, headers = status(f"{url}/flows/", tmp_path, data=flow, Origin="http://evil.example")
        assert code == 403 and "access-control-allow-origin" not in {name.lower() for name in headers}
        assert status(f"{url}/health", Host="evil.example")[0] == 400
        (process,) = servers(tmp_path)
        assert {c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        assert auth_string(tmp_path) not in " ".join(process.cmdline())
    assert auth_string(tmp_path).encode() not in (tmp_path / "prefect" / "server.log").read_bytes()


@pytest.mark.slow
def test_shared_server__two_runs_share_one_and_the_last_one_out_stops_it(tmp_path):
    first, second = holder(tmp_path), holder(tmp_path)
    urls = [first.stdout.readline().strip(), second.stdout.readline().strip()]
    assert urls[0] == urls[1] and urls[0].startswith("http://127.0.0.1:")
    (process,) = servers(tmp_path)
    first.communicate("\n")
    assert servers(tmp_path) == [process]
    second.communicate("\n")
    assert servers(tmp_path) == []
    assert not (tmp_path / "prefect" / "server.json").exists()


@pytest.mark.slow
def test_shared_server__a_killed_server_is_replaced_and_a_killed_user_leaves_no_server(tmp_path):
    first = holder(tmp_path)
    url = first.stdout.readline().strip()
    (process,) = servers(tmp_path)
    process.kill()
    wait_until(lambda: servers(tmp_path) not in ([], [process]), server.START_SECONDS)
    second = holder(tmp_path)
    assert second.stdout.readline().strip() == url
    assert len(servers(tmp_path)) == 1
    for one in (first, second):
        one.send_signal(signal.SIGKILL)
        one.wait()
    wait_until(lambda: not servers(tmp_path), server.WATCH_SECONDS + 15)
