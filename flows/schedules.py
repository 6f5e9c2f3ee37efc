"""Schedules of a home: what is run when. The source's path lies in the private book beside the key, not here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from domains.domain import find_recipe, recipe_from
from domains.errors import UsageError
from domains.identity import Identity, key_file
from domains.recipe import Frozen, Recipe
from domains.store import write_atomically

SOURCES = "SELFSIGHT_SOURCES"
"""Where a worker without schedules of its own finds sources: a folder with one folder a recipe, named like it."""


class Schedule(Frozen):
    """`<home>/schedules/<name>.json`."""

    name: str
    """Of its recipe."""
    recipe: dict[str, Any]
    source: str
    """Keyed id of the folder."""
    cron: str | None = None
    every_seconds: float | None = Field(default=None, gt=0)
    drift_cron: str | None = None
    timezone: str = "UTC"

    def said(self) -> str:
        """When, in words."""
        when = f"cron {self.cron} ({self.timezone})" if self.cron else f"every {self.every_seconds:g} s"
        return f"{when}, drift {f'cron {self.drift_cron}' if self.drift_cron else 'on request'}"


def keep_schedule(recipe: Recipe, source: Path, home: Path, **when: str | float | None) -> Schedule:
    """Makes a schedule of the recipe, in the place of the one there may be; `when` as in `Schedule`.

    Raises:
        UsageError: the source is no folder.
    """
    if not source.is_dir():
        raise UsageError(f"no folder at {source}")
    identity, path = Identity(), str(source.resolve())
    source_id = identity.keyed("source", path)
    identity.remember({source_id: path})
    values = {"name": recipe.name, "recipe": recipe.model_dump(mode="json"), "source": source_id, **when}
    schedule = Schedule.model_validate(values)
    file = _file(home, recipe.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, schedule.model_dump_json(indent=1))
    return schedule


def schedules_of(home: Path) -> list[Schedule]:
    """By name."""
    files = sorted((home / "schedules").glob("[!.]*.json"))
    return [Schedule.model_validate_json(file.read_text()) for file in files]


def remove_schedule(home: Path, name: str) -> None:
    """Forgets a schedule.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in (known := [one.name for one in schedules_of(home)]):
        raise UsageError(f"no schedule {name}; schedules of this home: {', '.join(known) or 'none'}")
    _file(home, name).unlink()


def work_of(home: Path, name: str) -> tuple[Recipe, Path]:
    """Recipe and source folder of a schedule; without one of that name, of the recipe and below SELFSIGHT_SOURCES.

    Raises:
        UsageError: neither is there, or the key that knows the path is not.
    """
    known = {one.name: one for one in schedules_of(home)}
    if name in known:
        source = known[name].source
        path = Identity().whois([source]).get(source)
        if path is None:
            raise UsageError(f"the source of schedule {name} is not in the book beside {key_file()}: schedule it again")
        return recipe_from(known[name].recipe)[1], Path(path)
    if sources := os.environ.get(SOURCES):
        return find_recipe(name)[1], Path(sources) / name
    raise UsageError(f"no schedule {name} in {home}, and {SOURCES} is not set")


def _file(home: Path, name: str) -> Path:
    return home / "schedules" / f"{name}.json"
