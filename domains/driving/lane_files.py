"""Which lanes belong to which frame: files beside recordings, sequences and images are found and matched by name.

`NAME.lanes.jsonl` is about the recording NAME or the numbered frames NAME_1, NAME_2, ... beside it; TuSimple's
`label_data*.json` about images it names; CULane's `NAME.lines.txt` about the image NAME; a mask about its image.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from domains.domain import Candidate
from domains.driving.attached import Attached
from domains.driving.lane_labels import Line, line_of
from domains.errors import Refused

JSON_LINES, CULANE = ".lanes.jsonl", ".lines.txt"
TUSIMPLE = ("label_data*.json", "test_label*.json")


def is_lane_file(path: Path) -> bool:
    """Whether a file holds lanes, by its name."""
    name = path.name.lower()
    return name.endswith((JSON_LINES, CULANE)) or any(fnmatch(name, pattern) for pattern in TUSIMPLE)


def attach(source: Path, candidates: Sequence[Candidate], files: Sequence[Path]) -> Attached:
    """Gives every candidate the lanes that the files of the source hold for it.

    A label that a mask has given already stays where no file of lanes is about the frame.

    Args:
        source: what TuSimple's names of images begin at, unless they begin at the file's own folder.
        candidates: recordings, sequences of frames, and frames.
        files: those for which `is_lane_file`.
    """
    done = Attached([])
    beside = {path for path in files if not _tusimple(path)}
    lines: dict[Path, tuple[Path, Line]] = {}
    for path in files:
        if _tusimple(path):
            try:
                lines |= _named_images(path, source, candidates, done)
            except Refused as refusal:
                done.refused[path] = refusal.reason
    numbers = _places(candidates)
    used: set[Path] = {path for path, _ in lines.values()}
    for candidate in candidates:
        labelled = _labelled(candidate, beside, lines, numbers)
        if labelled.label is not None:
            used.add(labelled.label)
        done.candidates.append(labelled)
    unused = set(files) - used - set(done.refused)
    done.ignored |= dict.fromkeys(unused, "lanes of frames that are not here or not for this recipe")
    return done


def _tusimple(path: Path) -> bool:
    return any(fnmatch(path.name.lower(), pattern) for pattern in TUSIMPLE)


def _labelled(
    candidate: Candidate, files: set[Path], lines: Mapping[Path, tuple[Path, Line]], numbers: Mapping[Path, int]
) -> Candidate:
    """The candidate with its file of lanes; else with its mask, if it has one; else as it is."""
    images = list(candidate.images.values())
    notes = {**candidate.notes, "label_kind": "lanes"}
    named = {at: lines[path] for at, path in enumerate(images) if path in lines}
    if named:
        table = next(iter(named.values()))[0]
        about = {at: line for at, (path, line) in named.items() if path == table}
        return replace(candidate, label=table, notes={**notes, "lanes": about})
    first = images[0]
    culane = first.with_name(first.stem + CULANE)
    if len(images) == 1 and culane in files:
        return replace(candidate, label=culane, notes=notes)
    stem = first.stem if "video" in candidate.images else candidate.group.rsplit("/", 1)[-1]
    whole = first.with_name(stem + JSON_LINES)
    if whole in files:
        at = {"frame": numbers[first]} if first in numbers else {}
        return replace(candidate, label=whole, notes={**notes, **at})
    return replace(candidate, notes={**notes, "label_kind": "lane_mask"}) if candidate.label else candidate


def _places(candidates: Sequence[Candidate]) -> dict[Path, int]:
    """Frame -> which one it is of its drive's frames in its folder, from 0 in the order of time."""
    drives: dict[tuple[Path, str], list[tuple[float, Path]]] = defaultdict(list)
    for candidate in candidates:
        if set(candidate.images) == {"frame"}:
            path = candidate.images["frame"]
            drives[path.parent, candidate.group].append((candidate.notes["seconds"][0], path))
    return {path: at for drive in drives.values() for at, (_, path) in enumerate(sorted(drive))}


def _named_images(
    path: Path, source: Path, candidates: Sequence[Candidate], done: Attached
) -> dict[Path, tuple[Path, Line]]:
    """Image -> the file and its line about it.

    Raises:
        Refused: a line is not TuSimple's.
    """
    there = {image for candidate in candidates for image in candidate.images.values()}
    found: dict[Path, tuple[Path, Line]] = {}
    missing: list[str] = []
    for number, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            name, lanes = str(line["raw_file"]), line_of(line)
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Refused(f"line {number} is not TuSimple's raw_file, lanes, h_samples ({_why(error)})") from None
        places = [image for base in (path.parent, source) if (image := base / name) in there]
        if places:
            found[places[0]] = (path, lanes)
        else:
            missing.append(name)
    if missing:
        done.refused[path] = f"lanes of {len(missing)} frames that are not there"
        done.alike[path] = missing
    return found


def _why(error: Exception) -> str:
    return type(error).__name__ if isinstance(error, json.JSONDecodeError | KeyError) else str(error)
