"""What a verb would take, from what it took before in this home: time, disk and memory, or "unknown"."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

from domains.recipe import Recipe
from domains.store import locked, write_atomically

Estimate = tuple[dict[str, Any], str]
"""JSON object and the line for a person."""


def estimate_ingest(recipe: Recipe, source: Path, home: Path) -> Estimate:
    """From the number of candidate subjects in the folder; files that are already known would be skipped."""
    from domains.domain import load

    scan = load(recipe.domain).scan(source, recipe)
    files = sum(len(c.images) + (c.label is not None) for c in scan.candidates)
    files += len(scan.ignored) + len(scan.refused)
    return _estimate("ingest", recipe, files, home, of=f"{files} files, {len(scan.candidates)} candidate subjects")


def estimate_training(verb: str, recipe: Recipe, home: Path) -> Estimate:
    """From the recipe's steps."""
    settings = getattr(recipe, verb)
    of = f"{settings.steps} steps of {settings.batch_size} crops"
    return _estimate(verb, recipe, settings.steps, home, of=of)


def remember_ingest(recipe: Recipe, files: int, seconds: float, home: Path) -> None:
    """Notes what the first ingest of a dataset took."""
    _remember("ingest", recipe, files, seconds, _size(home / "store" / "ingest"), home)


def remember_training(verb: str, recipe: Recipe, outcome: dict[str, Any], folder: Path, home: Path) -> None:
    """Notes what a finished training took."""
    if outcome.get("steps"):
        _remember(verb, recipe, outcome["steps"], outcome["seconds"], _size(folder), home)


def _estimate(verb: str, recipe: Recipe, units: int, home: Path, of: str) -> Estimate:
    known = _rates(home).get(_key(verb, recipe))
    answer: dict[str, Any] = {"dry_run": True, "verb": verb, "units": units}
    answer |= {"seconds": None, "disk_bytes": None, "memory_bytes": None}
    if known is None:
        return answer, f"{verb}: {of}; time, disk and memory unknown: not run in this home with these settings yet"
    disk = known["disk_bytes"] * (units / known["units"] if verb == "ingest" else 1)
    answer |= {"seconds": units * known["seconds"] / known["units"], "disk_bytes": round(disk)}
    answer["memory_bytes"] = known["memory_bytes"]
    time_text, disk_text = f"{answer['seconds']:.0f} s", f"{disk / 2**20:.1f} MiB on disk"
    return answer, f"{verb}: {of}; about {time_text}, {disk_text}, {known['memory_bytes'] / 2**30:.1f} GiB of memory"


def _remember(verb: str, recipe: Recipe, units: int, seconds: float, disk_bytes: int, home: Path) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    took = {"units": units, "seconds": seconds, "disk_bytes": disk_bytes, "memory_bytes": memory}
    with locked(home / "locks" / "rates"):
        rates = _rates(home) | {_key(verb, recipe): took}
        write_atomically(home / "rates.json", json.dumps(rates, indent=1))


def _rates(home: Path) -> dict[str, dict[str, float]]:
    file = home / "rates.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _key(verb: str, recipe: Recipe) -> str:
    """Runs with equal keys cost about the same per unit."""
    parts = [verb, recipe.name, recipe.digest("data")[:8]]
    if verb != "ingest":
        batch_size = getattr(recipe, verb).batch_size
        parts += [recipe.objective, recipe.encoder, recipe.size, recipe.precision, str(recipe.devices), str(batch_size)]
    return "/".join(parts)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
