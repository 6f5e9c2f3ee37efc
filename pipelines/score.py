"""score: a folder of inputs -> predictions and a line each; an input that was scored before is not scored again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from domains.domain import Candidate
from domains.errors import NothingUsable, UsageError
from domains.recipe import digest_of
from domains.store import write_atomically
from pipelines.checkpoint import digest_of_file
from pipelines.models import open_model
from pipelines.predict import OnOne, whole_inputs

RECORDS, TABLE = ".scores", "scores.jsonl"


@dataclass(frozen=True)
class Plan:
    """What of a folder is to be scored; plain values, so that it can be sent to another process or machine."""

    model: str
    """Model folder."""
    out: str
    home: str
    todo: tuple[tuple[str, Candidate], ...]
    """Key of its record, and files, of each input that has no record yet."""
    done: tuple[str, ...]
    """Keys of those that have."""
    refused: tuple[tuple[str, str], ...]
    """Files that are no input, and why."""


def plan_scoring(model: Path, folder: Path, out: Path, home: Path) -> Plan:
    """Looks at every input of a folder: its bytes, its name and the model's weights are the key of its record.

    Raises:
        UsageError: there is no such folder.
        NothingUsable: it has no input for this model.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder at {folder}; `selfsight predict` takes single files")
    loaded = open_model(model)
    scan = loaded.domain.scan(folder, loaded.recipe)
    candidates = whole_inputs([replace(candidate, label=None) for candidate in scan.candidates], loaded)
    if not candidates:
        raise NothingUsable(f"no input among the files of {folder}: {scan.layout}")
    keyed = [(_key(candidate, loaded.info["sha256"]), candidate) for candidate in candidates]
    done = [key for key, _ in keyed if _record(out, key) is not None]
    todo = [(key, candidate) for key, candidate in keyed if key not in set(done)]
    refused = [(str(file), reason) for file, reason in scan.refused.items()]
    return Plan(str(model), str(out), str(home), tuple(todo), tuple(done), tuple(refused))


def score_one(keyed: tuple[str, Candidate], *, model: str, out: str, home: str) -> dict[str, Any]:
    """Predicts on one input and keeps its record: paths in, JSON out, in whatever process.

    The model stays in memory for the next input of the same process. A kill leaves no record, and so the input is done
    again; a record is there only when its files are.

    Args:
        keyed: key of the record and the input's files, from `plan_scoring`.
        model: a model folder.
        out: where predictions and records go.
        home: holds temporary arrays.

    Returns:
        `input`, `files` below `out` and `figures` (what the predictions say as JSON), or `refused` with the reason.
    """
    (key, candidate), place = keyed, Path(out)
    place.mkdir(parents=True, exist_ok=True)
    output = OnOne(Path(model), place, Path(home))(candidate)
    if "files" in output:
        files = [Path(file) for file in output["files"]]
        figures = {file.name: json.loads(file.read_text()) for file in files if file.suffix == ".json"}
        output |= {"files": [str(file.relative_to(place)) for file in files], "figures": figures}
    (place / RECORDS).mkdir(exist_ok=True)
    write_atomically(place / RECORDS / f"{key}.json", json.dumps(output))
    return output


def table_of(plan: Plan, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of `scores.jsonl`, which is written: one of each input, by name, then the files that are none."""
    records = [_record(Path(plan.out), key) for key in keys]
    lines = sorted((one for one in records if one is not None), key=lambda one: str(one["input"]))
    lines += [{"input": file, "refused": reason} for file, reason in plan.refused]
    Path(plan.out).mkdir(parents=True, exist_ok=True)
    write_atomically(Path(plan.out) / TABLE, "".join(json.dumps(line) + "\n" for line in lines))
    return lines


def _key(candidate: Candidate, weights: str) -> str:
    files = {channel: digest_of_file(path) for channel, path in candidate.images.items()}
    return str(digest_of([weights, candidate.name, files]))[:32]


def _record(out: Path, key: str) -> dict[str, Any] | None:
    """What is kept of an input; None where a file of it is gone."""
    file = out / RECORDS / f"{key}.json"
    if not file.is_file():
        return None
    record: dict[str, Any] = json.loads(file.read_text())
    return record if all((out / name).is_file() for name in record.get("files", ())) else None
