"""The command `replicate`: the home's store to S3-compatible storage, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from domains.errors import UsageError
from flows.options import Home, Json
from flows.output import command


def replicate(
    to: Annotated[str | None, typer.Option("--to", metavar="URL", help="Send what the replica s3://BUCKET/PREFIX lacks.", show_default=False)] = None,  # noqa: E501
    source: Annotated[str | None, typer.Option("--from", metavar="URL", help="Fetch what this home lacks, every file checked.", show_default=False)] = None,  # noqa: E501
    prune: Annotated[bool, typer.Option("--prune", help="With --to: remove there what this home has no more, e.g. an erased patient.")] = False,  # noqa: E501
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Keep a replica of the store in S3-compatible storage: AWS_ENDPOINT_URL and credentials from the environment."""
    with command(home, as_json) as c:
        from pipelines import replica

        if (to is None) == (source is None) or (prune and to is None):
            raise UsageError("give either --to URL (which alone takes --prune) or --from URL")
        done = replica.send(c.home, to, prune=prune) if to is not None else replica.fetch(c.home, source or "")
        way = "sent to" if to is not None else "fetched from"
        lines = [
            f"{done.moved} entries ({done.bytes / 2**20:.1f} MB) {way} {to or source}, {done.entries} are there now"
        ]
        if done.left_over:
            lines.append(f"{done.left_over} entries there are no more in this home; --prune removes them")
        if done.pruned:
            lines.append(f"{done.pruned} entries removed there")
        c.done(asdict(done), *lines)
