"""Commands that only look: doctor, recipes, dataset check, whois, ui; and how results are shown."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from domains.errors import NothingUsable, UsageError
from flows.options import Home, Json, Set, recipe_of
from flows.output import command
from flows.stopping import owning_signals

MOST_PAIRS = 10
"""Near-duplicates that are shown to a person."""
ADVICE = "A dataset.yaml in the folder says what it is, key by key:"


def doctor(
    schedule: Annotated[bool, typer.Option("--schedule", help="Also prove, in a scratch home, that a schedule fires a run.")] = False,  # noqa: E501
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show versions, devices and disk, and what is wrong with them."""
    with command(home, as_json) as c:
        from flows.doctor import examine

        found = examine(c.home)
        lines = [f"{name:<12} {value}" for name, value in found["versions"].items()]
        lines += [
            f"{'devices':<12} {', '.join(found['devices'])}",
            f"{'disk':<12} {found['disk_free_gib']:.0f} GiB free",
        ]
        lines += [f"problem      {problem}" for problem in found["problems"]] or ["no problem found"]
        if schedule:
            from flows.schedule_check import prove_that_schedules_fire

            print(*lines, "schedule     waiting for a scheduled run ...", sep="\n", file=sys.stderr, flush=True)
            with owning_signals() as stop:
                found |= prove_that_schedules_fire(stop)
            lines.append(
                f"schedule     fires: a scheduled run had completed {found['fired_seconds']:.0f} s after the server "
                f"was up, which took {found['server_seconds']:.0f} s"
            )
        c.done(found, *lines)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one as YAML.", show_default=False)] = None,
    home: Home = None, as_json: Json = False, changes: Set = None,
) -> None:  # fmt: skip
    """List the recipes and objectives, or print a recipe as YAML (a file for --recipe-file)."""
    with command(home, as_json) as c:
        if name is not None:
            recipe = recipe_of(name, changes)
            return c.done(
                {"recipe": recipe.model_dump(mode="json"), "digest": recipe.digest()}, recipe.to_yaml().rstrip()
            )
        from domains.domain import load, names
        from ssl_models import objectives

        known = {r.name: r for domain in names() for r in load(domain).recipes.values()}
        lines = [f"{r.name:<18} {r.domain}: {r.head} from {r.objective}" for r in known.values()]
        captions = {name: objectives.caption(name) for name in objectives.names()}
        papers = {name: objectives.paper(name) for name in captions}
        lines += ["objectives, for --set objective=NAME (when to use which, and what it costs: docs/objectives.md):"]
        lines += [f"{name:<18} {text}\n{'':<18} {papers[name]}" for name, text in captions.items()]
        c.done({"recipes": sorted(known), "objectives": captions, "papers": papers}, *lines)


def dataset_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with the raw files.")],
    recipe: Annotated[str | None, typer.Option(metavar="RECIPE", help="Whose data it should be. Default: the first that fits.", show_default=False)] = None,  # noqa: E501
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Say what layout is detected in a folder, before any pixel is read."""
    with command(home, as_json) as c:
        name, scan = _first_fit(folder, recipe)
        schema = _schema(name)
        groups = len({candidate.group for candidate in scan.candidates})
        labels = sum(candidate.label is not None for candidate in scan.candidates)
        why = dict(Counter(scan.ignored.values()).most_common())
        refused = dict(Counter(scan.refused.values()).most_common())
        answer = {"recipe": name, "layout": scan.layout, "subjects": len(scan.candidates), "groups": groups,
                  "labels": labels, "ignored": len(scan.ignored), "ignored_why": why,
                  "refused": len(scan.refused), "refused_why": refused, "notes": list(scan.notes),
                  "statement": scan.statement, "dataset_yaml": schema}  # fmt: skip
        c.done(answer, f"{scan.layout} (read as {name})",
               f"{len(scan.candidates)} candidate subjects, {groups} groups, {labels} labels",
               *[f"refused {count}: {reason}" for reason, count in refused.items()],
               *[f"ignored {count}: {reason}" for reason, count in why.items()],
               *scan.notes,
               f"licence and origin: {scan.statement}", ADVICE,
               *[f"  {key}: {text}" for key, text in schema.items()])  # fmt: skip
        if not scan.candidates:
            raise NothingUsable(
                f"no subject found in {folder} ({scan.layout}); a dataset.yaml in it can say what it is"
            )


def whois(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Keyed ids of files, subjects or groups.")],
    home: Home = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Say which file, subject or patient an id stands for; only where the key is."""
    with command(home, as_json) as c:
        from domains.identity import Identity, key_file

        known = Identity().whois(ids)
        if not known:
            raise UsageError(f"none of these ids is known to the book beside {key_file()}")
        c.done({"ids": known}, *[f"{i}  {known.get(i, 'not known')}" for i in ids])


def ui(home: Home = None, as_json: Json = False) -> None:
    """Open the index of reports, MLflow's and Prefect's pages on loopback until Ctrl-C."""
    with command(home, as_json) as c:
        from flows.pages import show_pages

        show_pages(c.home)


def summary(answer: dict[str, Any]) -> list[str]:
    """The lines about a whole run: what was taken, how good the model is, where it is."""
    taken = answer["ingest"]
    verdicts = ", ".join(f"{taken[key]} {key}" for key in ("accepted", "refused", "labels", "ignored"))
    lines = [f"{taken['found']} files found: {verdicts}"]
    lines += [f"refused {one['file']}: {one['reason']}" for one in answer["refused_files"]]
    lines += answer["notes"]
    lines += comparison(answer)
    return [*lines, f"model  {answer['model']}", f"report {answer['report']}"]


def comparison(answer: dict[str, Any]) -> list[str]:
    """The metrics of the model beside the trivial competitor, with 95 % intervals, and how they are to be read.

    Points of curves ("sensitivity_at_1", ...) are left to the report.
    """
    trivial = answer["trivial"]
    names = [name for name in answer["metrics"] if "sensitivity_at_" not in name]
    wide = max(20, *map(len, names))
    lines = [f"{'metric':<{wide}}  {'model':<32}  {trivial['name']}"]
    for name in names:
        theirs = trivial["metrics"].get(name)
        lines.append(f"{name:<{wide}}  {_figure(answer['metrics'][name]):<32}  {_figure(theirs) if theirs else ''}")
    return lines + list(answer.get("summary", {}).get("notes", ()))


def near_duplicates(encoder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """What an encoder's folder says of near-duplicates among its data: as JSON, and for a person."""
    found = json.loads((encoder / "model.json").read_text())["lineage"].get("near_duplicates")
    if not found:
        return None, []
    if not found["pairs"]:
        return found, [f"near-duplicates: none among {found['subjects']} subjects"]
    what = (
        "one of each left out"
        if found["dropped"]
        else "all kept; --set pretrain.drop_near_duplicates=true leaves one of each out"
    )
    lines = [f"near-duplicates: {len(found['pairs'])} pairs among {found['subjects']} subjects, {what}"]
    for pair in found["pairs"][:MOST_PAIRS]:
        where = ", one of them held out" if pair["held_out"] else ""
        where += ", of two groups" if pair["other_group"] else ""
        lines.append(f"  {' and '.join(pair['subjects'])}: correlation {pair['correlation']:.3f}{where}")
    return found, lines


def budgets_of(text: str) -> list[int]:
    """Label budgets as a person writes them: "0,3,10"."""
    try:
        budgets = sorted({int(part) for part in text.split(",")})
    except ValueError:
        budgets = []
    if not budgets or budgets[0] < 0:
        raise UsageError(f"label budgets are numbers of labelled groups such as 0,3,10, not {text!r}")
    return budgets


def study_lines(study: dict[str, Any]) -> list[str]:
    """The table of a study, its verdict and what to mind."""
    lines = [f"{'arm':<44} {'labels':>6}  {study['primary']:<22} against scratch on the same images"]
    for row in study["table"]:
        budget = "-" if row["label_budget"] is None else str(row["label_budget"])
        lines.append(f"{row['arm']:<44} {budget:>6}  {_figure(row):<22} {_gain(row['against_scratch'])}".rstrip())
    return [*lines, study["verdict"], *study["warnings"], f"study  {study['study']}", f"report {study['report']}"]


def _gain(difference: dict[str, float | None] | None) -> str:
    if difference is None or difference["mean"] is None:
        return ""
    if difference["low"] is None:
        return f"{difference['mean']:+.3f} (no interval)"
    return f"{difference['mean']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"


def _figure(metric: dict[str, float | None]) -> str:
    if metric["mean"] is None:
        return "not defined"
    if metric["low"] is None:
        return f"{metric['mean']:.3f} (no interval, n={metric['n']})"
    return f"{metric['mean']:.3f} ({metric['low']:.3f}-{metric['high']:.3f}, n={metric['n']})"


def _schema(recipe: str) -> dict[str, str]:
    """Key -> meaning of a dataset.yaml, from the domain of the recipe."""
    from domains.domain import find_recipe

    domain, _ = find_recipe(recipe)
    return dict(domain.dataset_yaml)


def _first_fit(folder: Path, recipe: str | None) -> tuple[str, Any]:
    """Name of the recipe and its domain's scan: the named one, else what finds most labels, then most subjects."""
    from domains.domain import load, names

    if recipe is not None:
        wanted = recipe_of(recipe)
        return wanted.name, load(wanted.domain).scan(folder, wanted)
    scans, errors = {}, []
    for wanted in (r for d in names() for r in load(d).recipes.values()):
        try:
            scans[wanted.name] = load(wanted.domain).scan(folder, wanted)
        except UsageError as error:  # a dataset.yaml speaks to one domain, and another does not understand it
            errors.append(error)
    if not scans:
        raise errors[0]
    name = max(scans, key=lambda name: (_labelled(scans[name]), len(scans[name].candidates)))
    return name, scans[name]


def _labelled(scan: Any) -> int:
    return sum(candidate.label is not None for candidate in scan.candidates)
