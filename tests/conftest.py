"""Every test has a key, a home and a configuration folder of its own, and the real data if it is there."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Fixtures of modules, which run before any of a test's own, do not touch the user's key either."""
    os.environ["SELFSIGHT_KEY"] = str(Path(tempfile.mkdtemp(prefix="selfsight-key-")) / "key")


@pytest.fixture(autouse=True)
def private_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's key or a home it did not make."""
    monkeypatch.setenv("SELFSIGHT_KEY", str(tmp_path_factory.mktemp("key") / "key"))
    monkeypatch.delenv("SELFSIGHT_HOME", raising=False)
    # set first, so that what `mlflow.set_tracking_uri` or a flow leaves in the environment goes at the end of the test
    for address in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.setenv(address, "")
        monkeypatch.delenv(address)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it are skipped where it is absent."""
    named = os.environ.get("SELFSIGHT_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is not there ({folder.name}); set SELFSIGHT_TEST_DATA")
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that calls out of this machine fails, in its own process; the others are seen by `unshare -n` (docs)."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if host != "localhost" and not ip_address(host).is_loopback:
                raise AssertionError(f"a test calls out to the network: {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For tests that call the command line in this process: environment and signal handlers stay as they were."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
