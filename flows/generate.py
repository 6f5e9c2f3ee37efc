"""`selfsight generate`: a made-up archive with exact labels, to try things on and to start models without a label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from domains.errors import UsageError
from flows.options import Home, Json
from flows.output import command


def generate(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="medical or driving.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the files.")],
    subjects: Annotated[int, typer.Option(min=1, help="Volumes, or frames: ten a drive, and a recording for every twenty.")] = 16,  # noqa: E501
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Write a generated archive: heads with tumours, or drives, with exact labels."""
    with command(home, as_json) as c:
        from domains.domain import load, names

        able = [name for name in names() if load(name).generate is not None]
        if domain not in able:
            raise UsageError(f"nothing is generated for {domain!r}; domains that can be are {', '.join(able)}")
        if out.exists():
            raise UsageError(f"{out} is there already: name a new folder")
        write = load(domain).generate
        assert write is not None
        write(out, subjects, seed)
        files = sum(path.is_file() for path in out.rglob("*"))
        c.done({"out": str(out), "subjects": subjects, "files": files}, f"{files} files in {out}")
