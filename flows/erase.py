"""The command `erase`: removes a patient or drive from the home, keeps it out, and names the models that saw it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domains.errors import UsageError
from flows.options import Home, Json
from flows.output import command

if TYPE_CHECKING:
    from domains.erased import Seen
    from pipelines.erase import Plan

LEARNED = {
    "label_groups": "learned from its labels",
    "pretrain_groups": "learned from its images without labels",
    "probed_groups": "probed with its labels",
}


def erase(
    group: Annotated[str, typer.Argument(help="Keyed id of a patient or drive; where the key is, also what `selfsight whois` prints for it.")],  # noqa: E501
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Instead: let an ingest take an erased group in again.")] = False,
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Remove a group from the home for good, keep later ingests from taking it in, and name the models that saw it."""
    with command(home, as_json) as c:
        from pipelines import erase as verb

        group_id = group_id_of(group)
        if lift:
            verb.lift(group_id, c.home)
            return c.done({"group": group_id, "lifted": True}, f"{group_id}: the next ingest of its source takes it in")
        plan = verb.plan_erasure(group_id, c.home)
        lines = [*what_goes(plan), *who_saw(plan.seen, c.home)]
        if not yes:
            _confirm(lines)
        left = verb.erase(plan, c.home)
        answer = {"group": group_id, "subjects": list(plan.subjects), "entries": len(plan.entries),
                  "pictures": len(plan.pictures), "also_held_as": list(plan.others), "still_named_in": left,
                  "seen": [_advised(one, c.home) for one in plan.seen]}  # fmt: skip
        c.done(answer, *lines, *_afterwards(left, c.home), f"erased {group_id}")


def what_goes(plan: Plan) -> list[str]:
    """What an erasure removes, line by line."""
    stages = [stage for stage, _ in plan.entries]
    lines = [
        f"group {plan.group_id}: {len(plan.subjects)} subjects, {len(plan.files)} files; {stages.count('ingest')} "
        f"entries with its images, {stages.count('label')} with its labels, its lines in {len(plan.manifests)} "
        "manifests, its pictures and cases wherever they are",
        f"whole, since they may show it and are made again: {len(plan.pictures)} pictures of pretraining, checkpoints "
        "and reports of what saw it; embeddings, small copies, guessed masks, expected foreground of all subjects",
        "its id -> path lines; its files outside the home are not touched",
    ]
    return lines + [f"the same images are here as group {other} too: they go as well" for other in plan.others]


def who_saw(seen: tuple[Seen, ...], home: Path) -> list[str]:
    """The encoders and models that saw the group, and what to do about each."""
    if not seen:
        return ["no encoder and no model saw it"]
    lines = [f"{len(seen)} encoders and models saw it; they stay, and weights cannot forget:"]
    for one in seen:
        advised = _advised(one, home)
        names = ", ".join([*one.registered, advised["folder"]])
        lines += [f"  {one.kind} of {one.recipe}: {names}", f"    {'; '.join(advised['how'])}", f"    {advised['do']}"]
    return lines


def _advised(one: Seen, home: Path) -> dict[str, Any]:
    """What saw the group, how, and what to do, as JSON."""
    folder = one.folder if one.folder.startswith("models:") else str(home / one.folder)
    how = [LEARNED[role] for role in one.learned]
    how += [f"judged with it in {place}" for place in one.judged]
    if not one.learned:
        do = "its weights are free of it; its figures count it: judge it again with `selfsight evaluate`"
    else:
        verb = "pretrain" if one.kind == "encoder" else "finetune"
        do = f"train it again without the group (`selfsight {verb} {one.recipe}`) and remove this one"
        do += ", also in the registry (`selfsight ui`)" if one.registered else ""
    return {"kind": one.kind, "recipe": one.recipe, "folder": folder, "registered": list(one.registered), "how": how,
            "do": do}  # fmt: skip


def group_id_of(text: str) -> str:
    """The id itself, or that of the group which the book of names shows as `text`."""
    from domains.identity import Identity

    if len(text) == 16 and not text.strip("0123456789abcdef"):
        return text
    found = Identity().group_named(text)
    if found is None:
        raise UsageError("GROUP is the keyed id of a patient or drive, or what `selfsight whois` prints for that id")
    return found


def _confirm(lines: list[str]) -> None:
    if not sys.stdin.isatty():
        raise UsageError("\n".join(["nothing is erased without --yes; this would go:", *lines]))
    print(*lines, sep="\n", file=sys.stderr)
    if not typer.confirm("Erase it?", err=True):
        raise UsageError("nothing was erased")


def _afterwards(left: list[str], home: Path) -> list[str]:
    from pipelines.tracking import tracked_inside

    lines = [f"STILL NAMED in {file}: this file is of an unknown kind, remove it yourself" for file in left]
    if not tracked_inside(home):
        lines.append("MLflow is not in this home: pictures and model folders that it keeps were not touched")
    return lines
