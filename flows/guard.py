"""What keeps strangers away from the servers that we start: loopback, a password, one origin."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from domains.errors import UsageError

LOOPBACK = "127.0.0.1"
ELSEWHERE = ("PREFECT_SERVER_API_HOST", "MLFLOW_HOST")
"""How the two tools are told to listen on another address."""


def refuse_other_addresses() -> None:
    """Checks that nobody expects our servers on another address than loopback.

    Raises:
        UsageError: the environment names one; the text says how to reach the pages from another machine.
    """
    for name in ELSEWHERE:
        if os.environ.get(name, LOOPBACK) not in (LOOPBACK, "localhost"):
            raise UsageError(
                f"{name}={os.environ[name]}: selfsight's own servers listen on {LOOPBACK} only. From another machine "
                "use `ssh -L`; for a team, deploy/compose.yaml runs them with users and passwords. Unset the variable"
            )


def password_file(home: Path) -> Path:
    """Where the home keeps `user:password` of its Prefect servers."""
    return home / "prefect" / "password"


def auth_string(home: Path) -> str:
    """`user:password` of the home's Prefect servers: drawn once, in a file that only its owner reads."""
    path = password_file(home)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=".password-")  # 0600, and nobody else's
        with open(handle, "w") as file:
            file.write(f"selfsight:{secrets.token_urlsafe(32)}")
        with suppress(FileExistsError):  # another process or thread was first: its password counts
            os.link(made, path)
        os.unlink(made)
    return path.read_text()


def guarded(home: Path, url: str) -> dict[str, str]:
    """Settings of a Prefect server at `url` (without /api).

    Prefect's defaults ask nobody for a password, and let any web page that is open in a browser on this machine create
    flow runs.
    """
    return {
        "PREFECT_SERVER_API_AUTH_STRING": auth_string(home),
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_UI_API_URL": f"{url}/api",
    }
