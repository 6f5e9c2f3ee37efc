"""`selfsight ui`: on loopback, reports and nothing else, and no server left however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from domains.errors import UsageError
from flows.guard import ELSEWHERE, auth_string
from flows.pages import _index, show_pages

ROOT = Path(__file__).resolve().parents[2]


def asked(address: str, path: str, host: str | None = None) -> tuple[int, str]:
    """Code and text of a path that is sent as it is, without a client tidying it."""
    place = urlsplit(address)
    connection = HTTPConnection(place.hostname, place.port, timeout=20)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or place.netloc)
    connection.endheaders()
    with connection.getresponse() as answer:
        return answer.status, answer.read().decode()


def a_home(folder: Path) -> Path:
    (folder / "reports").mkdir(parents=True)
    (folder / "reports" / "brain_tumor-0123456789ab.html").write_text("the report")
    (folder / "private.db").write_text("secret")
    (folder / "reports" / "note.txt").write_text("secret")
    return folder


def test_index__shows_reports_and_nothing_else(tmp_path):
    with _index(a_home(tmp_path), {"MLflow": "http://127.0.0.1:1"}) as address:
        assert urlsplit(address).hostname == "127.0.0.1"
        code, text = asked(address, "/")
        assert code == 200 and "evaluation/brain_tumor-0123456789ab.html" in text and "http://127.0.0.1:1" in text
        assert asked(address, "/evaluation/brain_tumor-0123456789ab.html") == (200, "the report")
        for path in ("/private.db", "/../private.db", "/evaluation/../../private.db", "/evaluation/..%2fprivate.db",
                     "//etc/passwd", "/evaluation/%2fetc%2fpasswd", "/evaluation/note.txt",
                     "/study/../private.db"):  # fmt: skip
            code, text = asked(address, path)
            assert code == 404 and "secret" not in text and "root:" not in text, path
        assert asked(address, "/", host="evil.example")[0] == 403


def test_show_pages__another_address_is_refused(tmp_path, monkeypatch):
    for name in ELSEWHERE:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv(name, "0.0.0.0")
            with pytest.raises(UsageError, match=name):
                show_pages(tmp_path)


def ui(home: Path, **environment: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """The running command and the addresses that it printed, when all of them answer."""
    mine = {k: v for k, v in os.environ.items() if k not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}
    running = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "ui", "--home", str(home)], stdout=subprocess.PIPE, text=True,
        env=mine | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip
    addresses = {}
    for line in running.stdout:
        if "Ctrl-C" in line:
            break
        name, address = line.split()
        addresses[name] = address
    return running, addresses


def family(running: subprocess.Popen[str]) -> list[psutil.Process]:
    return [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ui__all_on_loopback_and_gone_with_it(tmp_path):
    home = a_home(tmp_path)
    for number in (signal.SIGKILL, signal.SIGTERM):
        running, addresses = ui(home)
        processes = family(running)
        try:
            assert set(addresses) == {"reports", "MLflow", "Prefect"}
            listening = [c.laddr for p in processes for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
            assert len(listening) >= 3 and {place.ip for place in listening} == {"127.0.0.1"}
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"{addresses['Prefect']}/api/admin/version", timeout=20)
            assert asked(addresses["Prefect"], "/")[0] == asked(addresses["MLflow"], "/")[0] == 200
            assert asked(addresses["MLflow"], "/", host="evil.example")[0] == 403
            assert auth_string(home) not in " ".join(word for p in processes for word in p.cmdline())
        finally:
            running.send_signal(number)
        assert running.wait(timeout=40) == (-9 if number == signal.SIGKILL else 0)
        assert psutil.wait_procs(processes[1:], timeout=40)[1] == []
        running.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ui__servers_that_run_elsewhere_are_linked_without_their_passwords(tmp_path):
    elsewhere = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "MLFLOW_TRACKING_URI": "http://me:sesame@127.0.0.1:9"}
    mine = {k: v for k, v in os.environ.items()} | {"PYTHONPATH": str(ROOT)} | elsewhere
    running = subprocess.Popen([sys.executable, "-m", "flows.cli", "ui", "--home", str(tmp_path)],
                               stdout=subprocess.PIPE, text=True, env=mine)  # fmt: skip
    address = running.stdout.readline().split()[1]
    text = asked(address, "/")[1]
    assert text.count('href="http://127.0.0.1:9"') == 2 and "sesame" not in text
    assert len(family(running)) == 1
    running.terminate()
    assert running.wait(timeout=30) == 0
    running.stdout.close()
