"""The command `sync`: sends MLflow what it missed while it was away."""

from __future__ import annotations

from flows.options import Home, Json
from flows.output import command


def sync(home: Home = None, as_json: Json = False) -> None:
    """Send MLflow the figures and pictures that it missed while it was away; nothing is sent twice."""
    with command(home, as_json) as c:
        from pipelines.tracking import sync as verb

        sent = verb(c.home)
        c.done(sent, f"{sent['records']} records sent, {sent['runs']} runs looked at")
