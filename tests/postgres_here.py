"""A Postgres of Debian's in a temporary folder: installed when it is missing, on loopback, gone at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def programs() -> Path:
    """The folder of initdb and postgres; the test is skipped where they cannot be had."""
    if not (found := sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))):
        if os.getuid() or not shutil.which("apt-get"):
            pytest.skip("Postgres is not here, and only root can install it (Debian's package postgresql)")
        for words in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
            subprocess.run(
                ["apt-get", "-qq", *words], check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            )
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent


@contextmanager
def postgres(folder: Path, port: int, user: str, password: str) -> Iterator[None]:
    """Runs it on 127.0.0.1:port with a password for everybody. It refuses to be root, so it is `postgres` then."""
    bin_, data = programs(), folder / "data"
    who = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    folder.mkdir(mode=0o755, parents=True)
    (folder / "password").write_text(password)
    if who:
        shutil.chown(folder, **who)
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **who}
    words = ["-D", data, "-U", user, "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync"]
    subprocess.run(
        [bin_ / "initdb", *words], check=True, cwd=folder, **quiet,
    )  # fmt: skip
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with open(folder / "postgres.log", "wb") as log:
        server = subprocess.Popen([bin_ / "postgres", "-D", data, *words], cwd=folder, **quiet, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while subprocess.run([bin_ / "pg_isready", "-qh", "127.0.0.1", "-p", str(port)], check=False).returncode:
            assert server.poll() is None and time.monotonic() < deadline, (folder / "postgres.log").read_text()
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
