"""Which files of a folder are frames, recordings, labels or neither; every file gets a place and every drive a name.

Frames lie in any folder and are named `<drive>_<number>` (CamVid), `<number>` (KITTI) or `clips/<day>/<clip>/<number>`
(TuSimple); a mask of a frame lies in the folder `masks` or `labels` beside the frames' one. A video file is a
recording. Files of lanes are matched in `lane_files.py`, telemetry in `telemetry.py`. The namespace is the folder's own
name (of a split such as `train` the name above it: a drive may have a part in each).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from domains.domain import Candidate, Scan
from domains.driving import box_files, dataset_yaml, lane_files, telemetry
from domains.driving.attached import Attached
from domains.driving.classes import ROAD_CLASSES
from domains.driving.dataset_yaml import DatasetYaml, read_dataset_yaml
from domains.driving.parts import cut
from domains.driving.readers import IMAGE_SUFFIXES
from domains.driving.recipes import settings
from domains.driving.video import VIDEO_SUFFIXES
from domains.errors import UsageError
from domains.recipe import Recipe

MASK_FOLDERS = {"masks", "labels"}
FRAME_FOLDERS = {"images", "frames"}
SPLIT_FOLDERS = {"train", "training", "val", "validation", "test", "testing", "data"}
CLASSES_FILE = "classes.txt"
STILLS = "stills beside recordings"
"""The drive of images without a number in their names, where there are recordings too."""
CAMVID, KITTI, TUSIMPLE, ASSUMED = 30.0, 10.0, 20.0, 10.0
"""By how much the number in a file's name grows in a second: of the data sets, and where nothing is known."""


@dataclass(frozen=True)
class _Still:
    """A frame's file and what its name says."""

    path: Path
    drive: str
    number: int | None
    numbers_per_second: float
    clock: str
    """Where the seconds come from, in words."""

    @property
    def seconds(self) -> float:
        return (self.number or 0) / self.numbers_per_second


def scan(source: Path, recipe: Recipe) -> Scan:
    """What a source folder contains, before any pixel is read; the order is that of the names.

    Raises:
        UsageError: there is no such folder, or its dataset.yaml is not understood.
    """
    if not source.is_dir():
        raise UsageError(f"no folder at {source}")
    said = read_dataset_yaml(source)
    files, ignored = _sorted_out(source)
    stills = [_still(path, source, said) for path in files if _is_frame(path, source)]
    masks = {path for path in files if _is_mask(path, source)}
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if videos:  # stills beside recordings are taken from them, as a rule, and nobody knows from which
        stills = [replace(still, drive=STILLS) if still.number is None else still for still in stills]
    if settings(recipe).clip_frames:
        layout = "recordings, cut into parts: video files, and folders of numbered frames"
        candidates, left = _sequences(source, stills)
        left |= dict.fromkeys(masks, "a mask of a single frame; this recipe takes recordings")
    else:
        layout = "single frames, with masks in a folder beside theirs where there are any, and parts of video files"
        about_masks, unfit = _mask_notes(source, recipe)
        candidates, left = _frames(source, stills, set() if unfit else masks, about_masks)
        left |= dict.fromkeys(masks, unfit) if unfit else {}
    candidates = [*candidates, *_videos(source, videos, {c.name for c in candidates})]
    candidates.sort(key=lambda candidate: candidate.name)
    layout += _alike(candidates)
    motion = [path for path in files if telemetry.is_telemetry(path)] if settings(recipe).clip_frames else []
    moving = telemetry.attach(candidates, motion, said.telemetry_offset_seconds)
    attached = _with_shapes(source, moving.candidates, files, recipe)
    candidates = attached.candidates
    grouped = [replace(c, group=group) for c in candidates if (group := said.group_of(c.name, c.group)) is not None]
    taken = {path for c in grouped for path in (*c.images.values(), c.label) if path is not None}
    unmatched = {path for c in candidates for path in (*c.images.values(), c.label) if path is not None} - taken
    left |= dict.fromkeys(unmatched, "the group pattern does not match")
    left |= dict.fromkeys(filter(lane_files.is_lane_file, files), "lanes, which this recipe does not learn from")
    unlearned = [path for path in files if box_files.is_box_file(path, source)]
    left |= dict.fromkeys(unlearned, "boxes, which this recipe does not learn from") | attached.ignored
    left |= dict.fromkeys(filter(telemetry.is_telemetry, files), "telemetry, which only clips carry") | moving.ignored
    refused = attached.refused | moving.refused
    taken |= set(refused)
    data = settings(recipe)
    parts = [part for c in grouped for part in (cut(c, data) if _is_recording(c) else [c])]
    return Scan(
        layout=layout,
        namespace=said.namespace or _namespace(source),
        candidates=parts,
        ignored=dict(sorted((ignored | {path: why for path, why in left.items() if path not in taken}).items())),
        statement=said.statement,
        refused=refused,
        alike=attached.alike,
        notes=box_files.left_out(attached.names, data.label_classes),
    )


def open_inputs(path: Path, recipe: Recipe) -> Sequence[Candidate]:
    """Candidates of a file given to `predict`.

    Raises:
        UsageError: nothing is there, or it is a frame where the model takes recordings, or the other way round.
    """
    if not path.is_file():
        raise UsageError(f"no file at {path}")
    video, clips = path.suffix.lower() in VIDEO_SUFFIXES, settings(recipe).clip_frames > 0
    if clips and not video:
        raise UsageError(f"{path} is a single frame, and this model takes recordings")
    return [Candidate(path.stem, path.parent.name, {"video" if video else "frame": path})]


def _sorted_out(source: Path) -> tuple[list[Path], dict[Path, str]]:
    """Files that may be of use, in order, and why each other file is not."""
    files: list[Path] = []
    ignored: dict[Path, str] = {}
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if any(part.startswith(".") for part in path.relative_to(source).parts):
                ignored[path] = "hidden"
            elif name in (dataset_yaml.FILE, CLASSES_FILE) and path.parent == source:
                ignored[path] = "describes the folder"
            elif (
                name.lower().endswith((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
                or lane_files.is_lane_file(path)
                or telemetry.is_telemetry(path)
                or box_files.is_box_file(path, source)
            ):
                files.append(path)
            else:
                ignored[path] = f"not a frame, a recording or a label known here ({path.suffix or 'no suffix'})"
    return sorted(files), ignored


def _is_mask(path: Path, source: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and bool(MASK_FOLDERS & set(path.relative_to(source).parts[:-1]))


def _is_frame(path: Path, source: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not _is_mask(path, source)


def _namespace(source: Path) -> str:
    folder = source.resolve()
    return folder.parent.name if folder.name.lower() in SPLIT_FOLDERS else folder.name


def _named(path: Path, source: Path) -> str:
    """A path without its suffix below the namespace's folder: equal names in two splits stay apart."""
    split = source.resolve().name
    below = path.relative_to(source).with_suffix("").as_posix()
    return f"{split}/{below}" if split.lower() in SPLIT_FOLDERS else below


def _still(path: Path, source: Path, said: DatasetYaml) -> _Still:
    """Drive and time of a frame from its name: the drive is what stands before the number, else the folder."""
    named = re.fullmatch(r"(?:(?P<drive>.+)_)?[a-z]?(?P<number>\d+)", path.stem)
    folders = path.relative_to(source).parts[:-1]
    if named is None:
        return _Still(path, path.stem, None, ASSUMED, "none: a still")
    number, drive = named["number"], named["drive"]
    if clip := re.fullmatch(r"(?:.*/)?clips/(?P<day>[^/]+)/(?P<clip>\d+)", "/".join(folders)):
        at = int(clip["clip"]) + int(number)
        return _Still(path, clip["day"], at, TUSIMPLE, "the clips' and frames' numbers, 20 a second")
    rate = re.search(r"(\d+)fps", "/".join((source.resolve().name, *folders)))
    if said.frames_per_second:
        clock = (said.frames_per_second, "dataset.yaml")
    elif rate:
        clock = (float(rate[1]), "the folder's name")
    elif drive:
        clock = (CAMVID, "the frames' numbers, 30 a second")
    elif len(number) == 10:
        clock = (KITTI, "the frames' numbers, 10 a second")
    else:
        clock = (ASSUMED, "the frames' numbers, 10 a second assumed")
    if not drive:
        below = [part for part in folders if part.lower() not in FRAME_FOLDERS | SPLIT_FOLDERS]
        drive = "/".join(below) or _namespace(source)
    return _Still(path, drive, int(number), *clock)


def _frames(
    source: Path, stills: Sequence[_Still], masks: set[Path], notes: dict[str, Any]
) -> tuple[list[Candidate], dict[Path, str]]:
    """A candidate a frame, and why the masks that belong to none are left."""
    candidates, left = [], dict.fromkeys(masks, "a mask without its frame")
    free = {mask.with_suffix(""): mask for mask in sorted(masks)}
    seen: set[str] = set()
    for still in stills:
        name = _named(still.path, source)
        if name in seen:
            left[still.path] = "a second file for this frame"
            continue
        seen.add(name)
        label = next((free.pop(place) for place in _mask_places(still.path, source) if place in free), None)
        about = {**notes, "seconds": (still.seconds,), "clock": still.clock, "dated": still.number is not None}
        candidates.append(Candidate(name, still.drive, {"frame": still.path}, label, about))
    return candidates, left


def _mask_places(frame: Path, source: Path) -> Iterator[Path]:
    """Where a frame's mask may lie, without suffix: images/a/x -> masks/a/x, labels/a/x."""
    below = frame.relative_to(source).with_suffix("")
    for at, part in enumerate(below.parts[:-1]):
        if part in FRAME_FOLDERS:
            for folder in sorted(MASK_FOLDERS):
                yield source.joinpath(*below.parts[:at], folder, *below.parts[at + 1 :])


def _videos(source: Path, videos: Sequence[Path], names: set[str]) -> list[Candidate]:
    """A candidate a video file. Its drive is named like the file, with its folders where two drives are named alike."""
    folders: dict[str, set[str]] = {}
    for path in videos:
        folders.setdefault(path.stem, set()).add(_folders(path, source))
    candidates = []
    for path in videos:
        name = _named(path, source)
        name = f"{name}{path.suffix}" if name in names else name
        names.add(name)
        apart = len(folders[path.stem]) > 1
        group = f"{_folders(path, source)}/{path.stem}" if apart else path.stem
        about = {"clock": "the file's own", "named_alike": apart}
        candidates.append(Candidate(name, group, {"video": path}, notes=about))
    return candidates


def _is_recording(candidate: Candidate) -> bool:
    return "video" in candidate.images or len(candidate.images) > 1


def _folders(path: Path, source: Path) -> str:
    """Folders of a file below the source, without those that only say what lies in them."""
    parts = path.relative_to(source).parts[:-1]
    return "/".join(part for part in parts if part.lower() not in FRAME_FOLDERS | SPLIT_FOLDERS)


def _alike(candidates: Sequence[Candidate]) -> str:
    count = sum(c.notes.get("named_alike", False) for c in candidates)
    return f"; {count} recordings in several folders share their names and are kept apart as drives" if count else ""


def _sequences(source: Path, stills: Sequence[_Still]) -> tuple[list[Candidate], dict[Path, str]]:
    """A candidate a sequence of numbered frames, and why the other frames are left."""
    candidates: list[Candidate] = []
    left: dict[Path, str] = {}
    sequences: dict[tuple[Path, str], dict[int, _Still]] = {}
    for still in stills:
        sequence = sequences.setdefault((still.path.parent, still.drive), {})
        if still.number is None:
            left[still.path] = "a still; this recipe takes recordings"
        elif still.number in sequence:
            left[still.path] = "a second file for this frame"
        else:
            sequence[still.number] = still
    for (folder, drive), sequence in sorted(sequences.items()):
        ordered = [sequence[number] for number in sorted(sequence)]
        if len(ordered) == 1:
            left[ordered[0].path] = "a single frame of its drive; this recipe takes recordings"
        if len(ordered) > 1:
            about = {"seconds": tuple(one.seconds for one in ordered), "clock": ordered[0].clock}
            images = {f"{one.number:010d}": one.path for one in ordered}
            name = _named(folder / drive, source)
            candidates.append(Candidate(name, drive, images, notes=about))
    return candidates, left


def _with_shapes(source: Path, candidates: Sequence[Candidate], files: Sequence[Path], recipe: Recipe) -> Attached:
    """The candidates with the lanes or boxes that the recipe's head learns from."""
    if recipe.head == "lanes":
        return lane_files.attach(source, candidates, [path for path in files if lane_files.is_lane_file(path)])
    if recipe.head == "obstacles":
        about_boxes = [path for path in files if box_files.is_box_file(path, source)]
        return box_files.attach(source, candidates, about_boxes, settings(recipe).label_classes)
    return Attached(list(candidates))


def _mask_notes(source: Path, recipe: Recipe) -> tuple[dict[str, Any], str]:
    """What the values of the source's masks mean to the recipe's head, or why they mean nothing."""
    names = _value_names(source)
    if recipe.head == "obstacles":
        return {}, "a mask; this recipe learns from boxes"
    if recipe.head == "lanes":
        paint = None if names is None else [value for value, name in names.items() if "lane" in name]
        return {"lane_values": paint}, "" if paint != [] else "a mask whose values are named, none of them a lane"
    known = {name.lower(): index for index, name in enumerate(ROAD_CLASSES)}
    return {"label_values": None if names is None else {v: known[n] for v, n in names.items() if n in known}}, ""


def _value_names(source: Path) -> dict[int, str] | None:
    """File value -> name in small letters by classes.txt of the folder or the one above; None: there is none."""
    for file in (source / CLASSES_FILE, source.resolve().parent / CLASSES_FILE):
        if file.is_file():
            lines = [line.split(maxsplit=1) for line in file.read_text().splitlines() if line.strip()]
            if not all(len(line) == 2 and line[0].isdigit() and int(line[0]) < 256 for line in lines):
                raise UsageError(f"{file} is not understood: each line is a number of 0..255 and a name")
            return {int(value): name.strip().lower() for value, name in lines}
    return None
