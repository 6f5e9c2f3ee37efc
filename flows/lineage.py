"""The commands `lineage` and `registry`: what made a model, which models saw a patient, what is registered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from domains.errors import UsageError
from flows.erase import LEARNED, group_id_of
from flows.options import Home, Json
from flows.output import command


def lineage(
    model: Annotated[str | None, typer.Argument(help="Registry URI or folder: what made it?", show_default=False)] = None,  # noqa: E501
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Keyed id of a patient or drive (where the key is, also what `selfsight whois` prints for it): which models saw it?", show_default=False)] = None,  # noqa: E501
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Say what made a model, from sources to decisions; or, with --group, which models saw a patient or drive."""
    with command(home, as_json) as c:
        if (model is None) == (group is None):
            raise UsageError("give a MODEL (what made it?) or --group GROUP (which models saw it?)")
        from pipelines.lineage import made_by, saw

        if model is not None:
            found = made_by(model, c.home)
            return c.done(found, *_steps(found))
        assert group is not None
        group_id = group_id_of(group)
        seen = [one.model_dump() for one in saw(group_id, c.home)]
        lines = [line for one in seen for line in _seen(one)] or ["no encoder and no model saw it"]
        c.done({"group": group_id, "seen": seen}, f"group {group_id}", *lines)


def registry(
    name: Annotated[str | None, typer.Argument(help="Only this name. Default: all.", show_default=False)] = None,
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """List the registered models: aliases, primary metric with its interval, who approved."""
    with command(home, as_json) as c:
        from pipelines.promote import unfinished
        from pipelines.registry import list_models

        models = list_models(c.home, name)
        c.done(
            {"models": models},
            *(_listed(models) or ["no model is registered in this home"]),
            *_half(unfinished(c.home)),
        )


def _listed(models: list[dict[str, Any]]) -> list[str]:
    return [
        f"{model['uri']:<34} {', '.join(model['aliases']) or '-':<27} {_day(model['created'])}  {_about(model)}"
        for model in models
    ]


def _about(model: dict[str, Any]) -> str:
    by = model["tags"].get("approved_by")
    return model["description"] + (f"; approved by {by}" if by else "")


def _day(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000):%Y-%m-%d %H:%M}"


def _half(decision: dict[str, Any] | None) -> list[str]:
    if decision is None:
        return []
    return [
        f"the {decision['action']} of {decision['model']} was killed half way: the next promote or rollback finishes it"
    ]


def _steps(found: dict[str, Any]) -> list[str]:
    lines = [f"source      {one['id']}: {one['statement']}" for one in found["sources"]]
    manifest, labels, encoder = found["manifest"], found["labels"], found["encoder"]
    counts = (
        f"{manifest['subjects']} subjects of {manifest['groups']} groups" if manifest["digest"] else "no longer kept"
    )
    lines += [
        f"manifest    store/manifest/{manifest['key']}: {counts}",
        *([f"{'':<12}sha256 {manifest['digest']}"] if manifest["digest"] else []),
        f"labels      store/labels/{labels['key']}: learned from those of {labels['groups']} groups",
    ]
    if encoder:
        named = ", ".join([*([encoder["uri"]] if encoder["uri"] else []), *encoder["aliases"]]) or "not registered"
        lines += [
            f"encoder     store/pretrain/{encoder['key']}: {encoder['objective']}, {encoder['groups']} groups without "
            f"labels ({named})",
            f"{'':<12}sha256 {encoder['sha256']}",
        ]
    else:
        lines += ["encoder     none: trained from scratch, or an encoder itself"]
    model = found["model"]
    named = ", ".join([*([model["uri"]] if model["uri"] else []), *model["aliases"]]) or "not asked of the registry"
    lines += [f"{model['kind']:<11} {model['key']}: {model['recipe']} ({named})", f"{'':<12}sha256 {model['sha256']}"]
    if judged := found["evaluation"]:
        lines += [f"evaluation  store/evaluate/{judged['key']}: {_figure(judged)}"]
        lines += [f"{'':<12}cases and labels sha256 {judged['judged_digest']}"] if judged["judged_digest"] else []
    for one in found["decisions"]:
        told = "accepted" if one["accepted"] else f"refused ({', '.join(one['failed'])})"
        lines += [
            f"decision    {one['decided_at']} {one['action']} {one['model']} {told}, {one['approved_by']}: "
            f"{one['reason']}"
        ]
    return lines


def _figure(judged: dict[str, Any]) -> str:
    if not judged["judged_digest"]:
        return "no longer kept"
    figure = judged["figure"]
    if figure["mean"] is None or figure["low"] is None:
        return f"{judged['primary']} without an interval"
    return f"{judged['primary']} {figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}, n={figure['n']})"


def _seen(one: dict[str, Any]) -> list[str]:
    how = [LEARNED[role] for role in one["learned"]] + [f"judged with it in {place}" for place in one["judged"]]
    names = ", ".join([*one["registered"], one["folder"]])
    return [f"{one['kind']} of {one['recipe']}: {names}", f"  sha256 {one['sha256']}", *[f"  {way}" for way in how]]
