"""Which files of a folder are images, labels, or neither: common layouts recognised, dataset.yaml obeyed.

Every file gets a place: image, label, or ignored with why. The namespace is the folder's resolved name unless
dataset.yaml gives one: it stays the same when the folder grows or moves, and two sources with equal folder names at
worst share patients, which keeps them on one side of a split.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from domains.domain import Candidate, Scan
from domains.errors import UsageError
from domains.medical import dataset_yaml
from domains.medical.dataset_yaml import DatasetYaml, pattern_to_regex, read_dataset_yaml
from domains.medical.dicom.instance import looks_like_dicom
from domains.medical.dicom.sequences import known_as
from domains.medical.dicom.tree import Tree, grow
from domains.medical.header import SUFFIXES
from domains.medical.heads import HEADS
from domains.medical.masks import Given, give
from domains.medical.sources import files_of, is_nifti
from domains.recipe import Recipe

LABEL_WORDS = {"mask", "seg", "segmentation", "label", "labels", "lesion"}
DRAFT = "draft"
"""Begins the name of a mask that nobody has looked at yet."""
IMAGE_FOLDERS, LABEL_FOLDERS = {"imagesTr", "imagesTs", "images"}, {"labelsTr", "labelsTs", "labels"}
SPLIT_FOLDERS = {"train", "training", "val", "validation", "test", "testing", "data"}


@dataclass
class _Found:
    """What a layout makes of the files: subject -> channel -> file, and so on."""

    images: dict[str, dict[str, Path]] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)
    ignored: dict[Path, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)


Layout = Callable[[Path, Sequence[Path], Sequence[str]], _Found]


def scan(source: Path, recipe: Recipe) -> Scan:
    """What a source folder contains, before any voxel is read; the order is that of the names.

    Raises:
        UsageError: there is no such folder, or its dataset.yaml is not understood.
    """
    if not source.is_dir():
        raise UsageError(f"no folder at {source}")
    channels: tuple[str, ...] = recipe.data.channels  # type: ignore[attr-defined]
    said = read_dataset_yaml(source) or DatasetYaml()
    files, slices, ignored = _sorted_out(source)
    tree = grow(slices, channels, _said(source, channels, said)) if slices else Tree()
    if slices and not files:
        name, found = "a tree of DICOM files", _Found()
    elif said.images:
        name, found = "as dataset.yaml says", _by_patterns(source, files, channels, said)
    else:
        name, layout = _recognise(source, files, channels)
        found = layout(source, files, channels)
    notes: dict[str, Any] = {"spacing": said.spacing, "may_be_empty": HEADS[recipe.head].may_be_empty}
    notes |= _classes(recipe)
    if said.classes:
        notes["label_values"] = _label_values(said.classes, recipe.data.label_classes, source)  # type: ignore[attr-defined]
    candidates = _complete(found, channels, said, notes)
    for one in tree.candidates:
        group = said.group_of(one.name) if said.group else one.group
        if group is None:
            tree.ignored.update(dict.fromkeys(one.images.values(), "the group pattern does not match"))
        else:
            candidates.append(replace(one, group=group, notes=notes))
    given = _masks_of_series(found, candidates, slices, source, said)
    return Scan(
        layout=name,
        namespace=said.namespace or source.resolve().name,
        candidates=[replace(c, label=given.labels.get(n, c.label)) for n, c in enumerate(candidates)],
        absent=[name for name in channels if not any(files_of(one, name) for one in candidates)],
        ignored=dict(sorted((ignored | found.ignored | tree.ignored | given.ignored).items())),
        refused=dict(sorted((tree.refused | given.refused).items())),
        statement=said.statement,
        alike=given.names,
        labels_only=said.takes == "labels",
    )


def _masks_of_series(
    found: _Found, candidates: Sequence[Candidate], slices: Sequence[Path], source: Path, said: DatasetYaml
) -> Given:
    """What becomes of the masks that have no NIfTI image, where there is a DICOM series that they may belong to."""
    series = [n for n, candidate in enumerate(candidates) if "/" in next(iter(candidate.images))]
    if not series:
        return Given()
    pattern = pattern_to_regex(said.label) if said.label else None

    beside_images = {
        candidate.label.parent for candidate in candidates if candidate.label and is_nifti(candidate.label)
    }

    def is_mask(path: Path) -> bool:
        named = pattern.fullmatch(path.relative_to(source).as_posix()) if pattern else _is_label(path)
        return is_nifti(path) and bool(named) and path.parent not in beside_images

    masks = [path for path in sorted(found.ignored) if is_mask(path)]
    for path in masks:
        del found.ignored[path]
    given = give(masks, [candidates[n] for n in series], slices, source)
    return replace(given, labels={series[n]: path for n, path in given.labels.items()})


def open_inputs(path: Path, recipe: Recipe) -> Sequence[Candidate]:
    """Candidates of a file given to `predict`.

    Raises:
        UsageError: nothing is there, or a single file was given where the recipe needs several channels.
    """
    channels: tuple[str, ...] = recipe.data.channels  # type: ignore[attr-defined]
    if not path.is_file():
        raise UsageError(f"no file at {path}")
    if len(channels) > 1 and _channel_of(path, channels) != channels[0]:
        raise UsageError(
            f"{path} is one file that is not named as {channels[0]}, and this model takes {', '.join(channels)}: give "
            "the patient's folder"
        )
    name = f"{path.parent.name}/{stem(path)}"
    key = f"{channels[0]}/0000" if looks_like_dicom(path) else channels[0]
    return [Candidate(name=name, group=path.parent.name, images={key: path}, notes=_classes(recipe))]


def _classes(recipe: Recipe) -> dict[str, Any]:
    """What a result calls its classes."""
    return {"classes": recipe.data.label_classes}  # type: ignore[attr-defined]


def stem(path: Path) -> str:
    """File name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _sorted_out(source: Path) -> tuple[list[Path], list[Path], dict[Path, str]]:
    """NIfTI files and DICOM files in order, and why each other file is neither."""
    files: list[Path] = []
    slices: list[Path] = []
    ignored: dict[Path, str] = {}
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if any(part.startswith(".") for part in path.relative_to(source).parts):
                ignored[path] = "hidden"
            elif name == dataset_yaml.FILE and path.parent == source:
                ignored[path] = "describes the folder"
            elif name.lower().endswith(SUFFIXES) and name.lower().startswith(DRAFT):
                ignored[path] = "a draft, no label until it is saved under a label's name"
            elif name.lower().endswith(SUFFIXES):
                files.append(path)
            elif looks_like_dicom(path):
                slices.append(path)
            else:
                ignored[path] = f"neither NIfTI nor DICOM ({path.suffix or 'no suffix'})"
    return sorted(files), sorted(slices), ignored


def _said(source: Path, channels: Sequence[str], said: DatasetYaml) -> Callable[[Path], str | None]:
    """Which channel dataset.yaml's patterns give a file."""
    patterns = [(c, pattern_to_regex(said.images[c])) for c in channels if c in said.images]

    def channel_of(path: Path) -> str | None:
        relative = path.relative_to(source).as_posix()
        return next((channel for channel, pattern in patterns if pattern.fullmatch(relative)), None)

    return channel_of


def _recognise(source: Path, files: Sequence[Path], channels: Sequence[str]) -> tuple[str, Layout]:
    tops = {path.relative_to(source).parts[0] for path in files if path.parent != source}
    if tops & IMAGE_FOLDERS:
        return "Decathlon / nnU-Net (images and labels in folders of their own)", _image_folders
    if any(_channel_of(path, channels) for path in files):
        return "one folder per patient, a file per channel", _patient_folders
    if len(channels) == 1:
        return f"one file per subject, each taken as {channels[0]!r}", _flat
    return f"no layout recognised for channels {', '.join(channels)}", _nothing


def _by_patterns(source: Path, files: Sequence[Path], channels: Sequence[str], said: DatasetYaml) -> _Found:
    missing = [channel for channel in channels if channel not in said.images]
    if missing:
        raise UsageError(f"{source / dataset_yaml.FILE} has no image pattern for channel {', '.join(missing)}")
    patterns = {channel: pattern_to_regex(said.images[channel]) for channel in channels}
    label = pattern_to_regex(said.label) if said.label else None
    found = _Found()
    for path in files:
        relative = path.relative_to(source).as_posix()
        hits = [(c, m["subject"]) for c, p in patterns.items() if (m := p.fullmatch(relative))]
        if hits:
            _add(found, hits[0][1], hits[0][0], path)
        elif label is not None and (match := label.fullmatch(relative)):
            _add_label(found, match["subject"], path)
        else:
            found.ignored[path] = "matches no pattern of dataset.yaml"
    return found


def _image_folders(source: Path, files: Sequence[Path], channels: Sequence[str]) -> _Found:
    """imagesTr/case_0000.nii.gz with labelsTr/case.nii.gz, or images/case.nii.gz with labels/case.nii.gz."""
    found = _Found()
    for path in files:
        top = path.relative_to(source).parts[0]
        if top in LABEL_FOLDERS:
            _add_label(found, stem(path), path)
        elif top in IMAGE_FOLDERS:
            numbered = re.fullmatch(r"(.+)_(\d{4})", stem(path))
            subject, index = (numbered[1], int(numbered[2])) if numbered else (stem(path), 0)
            if index < len(channels):
                _add(found, subject, channels[index], path)
            else:
                found.ignored[path] = f"channel number {index} is not used by the recipe"
        else:
            found.ignored[path] = "outside the image and label folders"
    return found


def _patient_folders(source: Path, files: Sequence[Path], channels: Sequence[str]) -> _Found:
    found = _Found()
    for path in files:
        folder = path.parent.relative_to(source)
        subject = source.resolve().name if folder == PurePosixPath(".") else folder.as_posix()
        if _is_label(path):
            _add_label(found, subject, path)
        elif channel := _channel_of(path, channels):
            _add(found, subject, channel, path)
        else:
            found.ignored[path] = f"not a channel of the recipe ({', '.join(channels)})"
        # the patient is the uppermost folder that is not the name of a split; visits below it stay together
        parts = [part for part in folder.parts if part.lower() not in SPLIT_FOLDERS]
        found.groups[subject] = parts[0] if parts else subject
    return found


def _flat(source: Path, files: Sequence[Path], channels: Sequence[str]) -> _Found:
    found = _Found()
    for path in files:
        subject = (path.parent.relative_to(source) / stem(path)).as_posix()
        if _is_label(path):
            _add_label(found, re.sub(rf"[^a-zA-Z0-9]+({'|'.join(LABEL_WORDS)})$", "", subject, flags=re.I), path)
        else:
            _add(found, subject, channels[0], path)
            named = re.match(r"sub-[A-Za-z0-9]+", stem(path))
            found.groups[subject] = named[0] if named else subject
    return found


def _nothing(source: Path, files: Sequence[Path], channels: Sequence[str]) -> _Found:
    return _Found(ignored={path: "no layout recognised; say in dataset.yaml what this is" for path in files})


def _words(path: Path) -> list[str]:
    words = [word for word in re.split(r"[^a-z0-9]+", stem(path).lower()) if word]
    return [known_as(word) for word in words]


def _is_label(path: Path) -> bool:
    return bool(LABEL_WORDS & set(_words(path)))


def _channel_of(path: Path, channels: Sequence[str]) -> str | None:
    if _is_label(path):
        return None
    words = _words(path)
    return next((channel for channel in channels if known_as(channel) in words), None)


def _add(found: _Found, subject: str, channel: str, path: Path) -> None:
    images = found.images.setdefault(subject, {})
    if channel in images:
        found.ignored[path] = f"a second file for channel {channel}"
    else:
        images[channel] = path


def _add_label(found: _Found, subject: str, path: Path) -> None:
    if subject in found.labels:
        found.ignored[path] = "a second label"
    else:
        found.labels[subject] = path


def _complete(found: _Found, channels: Sequence[str], said: DatasetYaml, notes: Mapping[str, Any]) -> list[Candidate]:
    """Candidates of the subjects that have the first channel and a group; files of the others are ignored with why."""
    candidates = []
    for subject, images in sorted(found.images.items()):
        group = said.group_of(subject) if said.group else found.groups.get(subject, subject)
        if channels[0] not in images or group is None:
            why = f"{channels[0]} is missing beside it" if group is not None else "the group pattern does not match"
            found.ignored.update(dict.fromkeys(images.values(), why))
            continue
        ordered = {channel: images[channel] for channel in channels if channel in images}
        label = found.labels.pop(subject, None)
        candidates.append(Candidate(subject, group, ordered, label, notes))
    found.ignored.update(dict.fromkeys(found.labels.values(), "a label without its image"))
    return candidates


def _label_values(classes: Mapping[str, int | list[int]], known: Sequence[str], source: Path) -> dict[int, int]:
    unknown = [name for name in classes if name not in known]
    if unknown:
        file = source / dataset_yaml.FILE
        raise UsageError(f"{file}: class {', '.join(unknown)} is not of the recipe; its classes are {', '.join(known)}")
    pairs = [(name, [values] if isinstance(values, int) else values) for name, values in classes.items()]
    return {value: 1 + list(known).index(name) for name, values in pairs for value in values}
