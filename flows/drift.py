"""The command `drift`: is new data still like the training data, what differs, and which subjects are strangest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import Home, Json, Set, recipe_of
from flows.output import command

ALARM_CODE = 4
"""As for everything that a rule of proof refuses."""


def drift(
    trained: Annotated[str, typer.Argument(metavar="RECIPE|MODEL", help="A recipe: its newest data. A model or encoder (registry URI or folder): what it was trained on.")],  # noqa: E501
    source: Annotated[Path, typer.Argument(metavar="SOURCE|MANIFEST", help="Folder with new raw files, which does not join the dataset; or a manifest.")],  # noqa: E501
    level: Annotated[float, typer.Option(min=0.001, max=0.5, help="Chance of an alarm when nothing has changed.")] = 0.05,  # noqa: E501
    gate: Annotated[bool, typer.Option("--gate", help="Leave with exit code 4 on an alarm, for scripts.")] = False,
    home: Home = None, as_json: Json = False, changes: Set = None,
) -> None:  # fmt: skip
    """Compare new data with training data: an alarm when it differs by more than chance explains."""
    with command(home, as_json) as c:
        from pipelines.drift import drift as verb

        if _is_model(trained):
            from pipelines.models import open_model
            from pipelines.registry import resolve

            model = resolve(c.home, trained)
            found = verb(open_model(model).recipe, c.home, source=source, model=model, level=level)
        else:
            found = verb(recipe_of(trained, changes), c.home, source=source, level=level)
        c.done(found.to_json(), *said(found.to_json()))
    if gate and found.alarm:
        raise typer.Exit(ALARM_CODE)


def said(result: dict[str, Any]) -> list[str]:
    """The answer line by line."""
    new, trained, rate = result["new"], result["trained"], result["false_alarm_rate"]
    lines = [
        f"{new['subjects']} new subjects in {new['groups']} groups ({new['known']} known already, {new['refused']} "
        f"files refused); training data: {trained['subjects']} subjects in {trained['groups']} groups"
    ]
    for test in result["tests"]:
        alarm = "ALARM" if test["alarm"] else "no alarm"
        groups = f"{test['new']['groups']} groups against {test['trained']['groups']}"
        lines.append(f"{_name(test)}: {alarm} (p {test['p']:.3g}, {groups})")
        for one in _over(test):
            limits = f"usually {one['usual']:.3f}, alarm from {one['threshold']:.3f}"
            lines.append(f"  {one['name']}: distance {one['value']:.3f}, {limits}")
    lines += [
        f"strange: {one['subject_id']}, {one['deviations']:+.1f} deviations in {one['by']}"
        for one in result["strangest"]
    ]
    if rate > result["level"] + 1e-9:
        lines.append(f"with so few training groups a false alarm has a chance of {rate:.0%}, not {result['level']:.0%}")
    if result["encoder"] == "random":
        lines.append("no encoder is pretrained with this recipe and data: the embedding is that of random weights")
    return [*lines, f"picture {result['picture']}", f"drift {'ALARM' if result['alarm'] else 'no alarm'}"]


def _name(test: dict[str, Any]) -> str:
    return "all" if test["site"] == "all" else f"{test['site']} (against {test['compared_with']})"


def _over(test: dict[str, Any]) -> list[dict[str, Any]]:
    found = [one for one in test["statistics"] if one["alarm"]]
    return sorted(found, key=lambda one: (one["usual"] - one["value"]) / (one["threshold"] - one["usual"] or 1.0))


def _is_model(text: str) -> bool:
    return text.startswith("models:/") or (Path(text) / "model.json").is_file()
