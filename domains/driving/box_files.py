"""Which boxes belong to which frame: files beside recordings, tables and files of one frame, by name.

`NAME.boxes.json` is about the recording NAME; a COCO file (`*coco*.json`, `annotations*.json`, `instances*.json`) about
images it names; `labels/NAME.txt` (YOLO, with `classes.txt` or `data.yaml`) and `label_2/NAME.txt` (KITTI) about the
image NAME in the folder beside theirs. An image that its COCO file names without boxes, or with an empty text file, has
none; one without a file is not labelled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from domains.domain import Candidate
from domains.driving.attached import Attached
from domains.driving.box_labels import Boxes, boxes_of, is_known, read_coco
from domains.errors import Refused

BESIDE = ".boxes.json"
TABLES = ("*coco*.json", "annotations*.json", "instances*.json")
FRAMES_BESIDE = {"labels": ("images", "frames"), "label_2": ("image_2",)}
"""Folder of text files -> folders that their frames may lie in."""
CLASS_FILES = ("classes.txt", "data.yaml")
"""What YOLO's numbers mean: a name a line, or `names`; beside the text files or in a folder above."""


def is_box_file(path: Path, source: Path) -> bool:
    """Whether a file of a source holds boxes, or says what their classes are, by its name and folder."""
    name, folders = path.name.lower(), path.relative_to(source).parts[:-1]
    beside = name.endswith(".txt") and any(folder in FRAMES_BESIDE for folder in folders)
    return name.endswith(BESIDE) or beside or name in CLASS_FILES or any(fnmatch(name, table) for table in TABLES)


def attach(source: Path, candidates: Sequence[Candidate], files: Sequence[Path], classes: Sequence[str]) -> Attached:
    """Gives every candidate the boxes that the files of the source hold for it, and takes any other label away.

    Of two files about one frame the first by name is taken, a frame's own before a table.

    Args:
        source: what names of images in tables begin at, unless they begin at the file's own folder.
        candidates: recordings and frames.
        files: those for which `is_box_file`.
        classes: of the recipe.
    """
    done = Attached([replace(candidate, label=None) for candidate in candidates])
    places = _Places(source, candidates)
    tables = [path for path in files if any(fnmatch(path.name.lower(), table) for table in TABLES)]
    for path in sorted(set(files) - set(tables)) + tables:
        try:
            if path.name.lower() in CLASS_FILES:
                done.ignored[path] = "says what the classes are"
            elif path.name.lower().endswith(BESIDE):
                _beside(done, path, places, classes)
            elif path in tables:
                _table(done, path, places, classes)
            else:
                _own(done, path, places, classes)
        except Refused as refusal:
            done.refused[path] = refusal.reason
    return done


def left_out(names: Counter[str], classes: Sequence[str]) -> list[str]:
    """What a person should know of boxes whose names mean none of the classes."""
    unknown = [f"{name} ({count})" for name, count in names.most_common() if not is_known(name, classes)]
    return [f"boxes that are none of {', '.join(classes)} are left out: {', '.join(unknown)}"] if unknown else []


class _Places:
    """Where the candidates' frames and recordings lie."""

    def __init__(self, source: Path, candidates: Sequence[Candidate]) -> None:
        self.source = source
        self.frames = {path: n for n, one in enumerate(candidates) for at, path in one.images.items() if at == "frame"}
        self.stems = {path.with_suffix(""): n for path, n in self.frames.items()}
        self.by_name: dict[str, list[int]] = {}
        for path, n in self.frames.items():
            self.by_name.setdefault(path.name, []).append(n)
        self.recordings: dict[Path, list[int]] = {}
        for n, one in enumerate(candidates):
            if "video" in one.images:
                self.recordings.setdefault(one.images["video"].with_suffix(""), []).append(n)

    def of_image(self, name: str, folder: Path) -> int | None:
        """The candidate that a table in `folder` calls so: by its path, or by its name where that is unique."""
        for base in (folder, self.source):
            if (found := self.frames.get(base / name)) is not None:
                return found
        alone = self.by_name.get(Path(name).name, [])
        return alone[0] if len(alone) == 1 else None

    def of_text(self, path: Path) -> int | None:
        """The candidate whose frame has the same path but for the folder of the labels."""
        below = path.relative_to(self.source).with_suffix("").parts
        for at in reversed(range(len(below) - 1)):
            for folder in FRAMES_BESIDE.get(below[at], ()):
                if (found := self.stems.get(self.source.joinpath(*below[:at], folder, *below[at + 1 :]))) is not None:
                    return found
        return None


def _beside(done: Attached, path: Path, places: _Places, classes: Sequence[str]) -> None:
    """Boxes of a recording; each of its parts gets the file."""
    own = places.recordings.get(path.with_name(path.name[: -len(BESIDE)]), [])
    if not own:
        done.ignored[path] = "boxes without their recording, or not for this recipe"
        return
    _count(done, read_coco(path).of.values())
    for n in own:
        _label(done, n, path, {"classes": tuple(classes), "format": "recording"})


def _table(done: Attached, path: Path, places: _Places, classes: Sequence[str]) -> None:
    said = read_coco(path)
    missing, taken, used = [], False, False
    for name, boxes in said.of.items():
        n = places.of_image(name, path.parent)
        if n is None:
            missing.append(name)
            continue
        taken = True
        if done.candidates[n].label is None:
            _count(done, [boxes])
            _label(done, n, path, {"classes": tuple(classes), "format": "coco", "image": name})
            used = True
    wrong = [f"boxes of {len(missing)} frames that are not there"] if missing else []
    wrong += [f"{said.astray} boxes of images that it does not name"] if said.astray else []
    if wrong and (taken or said.astray):
        done.refused[path] = " and ".join(wrong)
        done.alike[path] = missing
    elif not used:
        done.ignored[path] = "a second file of boxes for its frames" if taken else "boxes of frames that are not here"


def _own(done: Attached, path: Path, places: _Places, classes: Sequence[str]) -> None:
    n = places.of_text(path)
    if n is None:
        done.ignored[path] = "boxes without their frame"
    elif done.candidates[n].label is not None:
        done.ignored[path] = "a second file of boxes for its frame"
    else:
        kitti = "label_2" in path.parts
        how: dict[str, Any] = {"classes": tuple(classes), "format": "kitti" if kitti else "yolo"}
        if not kitti:
            how["names"] = _yolo_names(path, places.source)
        _count(done, boxes_of(path, how).values())
        _label(done, n, path, how)


def _yolo_names(path: Path, source: Path) -> tuple[str, ...]:
    """What the numbers of a file mean.

    Raises:
        Refused: nothing says so, or in a way that is not understood.
    """
    for folder in path.parents:
        for file in (folder / name for name in CLASS_FILES):
            if file.is_file():
                return _names_in(file)
        if folder == source:
            break
    raise Refused("no classes.txt or data.yaml says what its classes are")


def _names_in(file: Path) -> tuple[str, ...]:
    if file.suffix == ".txt":
        return tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
    try:
        names = yaml.safe_load(file.read_text())["names"]
        return tuple(str(names[n]) for n in range(len(names)))
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise Refused(f"data.yaml does not give `names` for the classes ({type(error).__name__})") from None


def _label(done: Attached, n: int, path: Path, how: dict[str, Any]) -> None:
    notes = {**done.candidates[n].notes, "label_kind": "boxes", "boxes": how}
    done.candidates[n] = replace(done.candidates[n], label=path, notes=notes)


def _count(done: Attached, many: Iterable[Boxes]) -> None:
    done.names.update(box.name for boxes in many for box in boxes.boxes)
