"""The commands `promote` and `rollback`: who is champion, decided by the gate and a person, and taken back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from domains.errors import GateRefused
from flows.options import Home, Json
from flows.output import command

ApprovedBy = Annotated[str, typer.Option("--approved-by", metavar="PERSON", help="Who takes the responsibility; kept with the decision.")]  # fmt: skip  # noqa: E501
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the decision.")]


def promote(
    model: Annotated[str, typer.Argument(help="Registry URI, e.g. models:/brain-tumor@challenger.")],
    approved_by: ApprovedBy,
    reason: Reason,
    margin: Annotated[float, typer.Option("--margin", metavar="X", help="Least gain of the primary metric over the champion.")] = 0.01,  # noqa: E501
    max_seconds: Annotated[float, typer.Option("--max-seconds", metavar="S", help="Longest prediction on one held-out subject.")] = 60.0,  # noqa: E501
    max_megabytes: Annotated[float, typer.Option("--max-megabytes", metavar="MB", help="Largest file of weights.")] = 500.0,  # noqa: E501
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a registered version the champion, if it meets every condition of the gate (docs/registry.md)."""
    with command(home, as_json) as c:
        from pipelines.gate import Limits
        from pipelines.promote import promote as verb

        limits = Limits(margin=margin, seconds=max_seconds, megabytes=max_megabytes)
        decision = verb(model, c.home, approved_by=approved_by, reason=reason, limits=limits)
        c.done(decision, *_conditions(decision), *_moved(decision), f"decision {c.home / decision['file']}")
        if not decision["accepted"]:
            failed = [one for one in decision["conditions"] if not one["met"]]
            lines = [f"{decision['model']} is refused: {len(failed)} of {len(decision['conditions'])} conditions fail"]
            lines += _conditions({"conditions": failed})
            raise GateRefused("\n".join([*lines, f"decision {c.home / decision['file']}"]))


def rollback(
    name: Annotated[str, typer.Argument(help="Name of a registered model, e.g. brain-tumor.")],
    approved_by: ApprovedBy,
    reason: Reason,
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make the previous champion the champion again: one move of one alias."""
    with command(home, as_json) as c:
        from pipelines.promote import rollback as verb

        decision = verb(name, c.home, approved_by=approved_by, reason=reason)
        c.done(decision, *_moved(decision), f"decision {c.home / decision['file']}")


def _conditions(decision: dict[str, Any]) -> list[str]:
    return [f"{'met   ' if one['met'] else 'FAILED'} {one['name']:<14} {one['says']}" for one in decision["conditions"]]


def _moved(decision: dict[str, Any]) -> list[str]:
    before = decision["champion_before"] or "none"
    lines = [f"models:/{decision['name']}@champion is {decision['model']} (before: {before})"]
    others = {name for name, _, _ in decision["moves"]} - {decision["name"]}
    return lines + [f"models:/{name}@champion is the encoder it started from" for name in sorted(others)]
