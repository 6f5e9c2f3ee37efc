"""A tree of DICOM files in any order: who belongs together, which series is which channel, and why the others are not.

A subject is a study of a patient with one series for each channel of the recipe; all but the first channel may be
missing, and only a series in the first one's frame of reference can be laid over it. A recipe whose channel is no
kind of sequence (`image`) takes every original series as a subject of its own. What dataset.yaml's image patterns name
is taken as they say, derived or not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from domains.domain import Candidate
from domains.errors import Refused
from domains.medical.dicom.instance import Instance, read_instance, refuse_burned_in
from domains.medical.dicom.seg_in import SEGMENTATION, series_of
from domains.medical.dicom.sequences import KINDS, kind_of, known_as
from domains.medical.dicom.stack import SeveralDirections, stack_of

OBJECTS = {
    "SR": "a report, no image", "PR": "a presentation state, no image", "KO": "a list of images, no image",
    "RTSTRUCT": "contours of radiotherapy, no image", "RTPLAN": "a plan of radiotherapy, no image",
    "RTDOSE": "a dose of radiotherapy, no image", "ECG": "a waveform, no image",
    "US": "an ultrasound image, not a volume", "CR": "an X-ray, not a volume", "DX": "an X-ray, not a volume",
    "NM": "nuclear medicine, not MR or CT", "PT": "PET, not MR or CT", "OT": "neither MR nor CT",
}  # fmt: skip
"""Modality -> why its files are no input of a recipe of volumes."""
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class, and beginning of its multi-frame forms."""
Said = Callable[[Path], str | None]
"""File -> channel that dataset.yaml's patterns give it."""


@dataclass
class Tree:
    """What a tree holds; every file is in exactly one of the three."""

    candidates: list[Candidate] = field(default_factory=list)
    ignored: dict[Path, str] = field(default_factory=dict)
    refused: dict[Path, str] = field(default_factory=dict)


@dataclass
class _Series:
    """Files of one series that make one volume."""

    instances: list[Instance]
    channel: str | None = None
    slices: int = 0

    @property
    def paths(self) -> list[Path]:
        return [instance.path for instance in self.instances]

    def label(self, name: str) -> str:
        return self.instances[0].text(name)


def grow(files: Iterable[Path], channels: Sequence[str], said: Said = lambda path: None) -> Tree:
    """Candidates of a recipe with these channels, and a reason for every file that is in none."""
    tree = Tree()
    by_series: dict[tuple[str, ...], dict[str, Instance]] = defaultdict(dict)
    masks: list[Path] = []
    for path in files:
        try:
            instance = read_instance(path)
            refuse_burned_in(instance)
        except Refused as refusal:
            tree.refused[path] = refusal.reason
            continue
        if instance.text("SOPClassUID") == SEGMENTATION:
            masks.append(path)
            continue
        if reason := _no_input(instance, named=said(path) is not None):
            tree.ignored[path] = reason
            continue
        same = by_series[
            instance.text("PatientID"),
            instance.text("SeriesInstanceUID") or str(path.parent),
            instance.text("StudyInstanceUID"),
        ]
        name = instance.text("SOPInstanceUID") or str(path)
        if name in same:
            tree.ignored[path] = "the same instance as another file"
        else:
            same[name] = instance
    volumes = [v for group in by_series.values() if (v := _volume(list(group.values()), tree)) is not None]
    for volume in volumes:
        volume.channel = said(volume.paths[0]) or _channel(volume, channels, tree)
    taken = [v for v in volumes if v.channel is not None]
    _gather(taken, channels, tree)
    _label(masks, {v.label("SeriesInstanceUID"): v.paths[0] for v in taken}, tree)
    return tree


def _as_folder(part: str) -> str:
    """An id as one name of a folder: results are written below it, and it must not lead elsewhere."""
    return re.sub(r"[^\w.^+ -]", "_", part).strip(". ") or "unnamed"


def _label(masks: Sequence[Path], first_of: dict[str, Path], tree: Tree) -> None:
    """Gives each SEG to the subject whose series it refers to; of several the first by name."""
    owner = {path: n for n, candidate in enumerate(tree.candidates) for path in candidate.images.values()}
    for path in masks:
        try:
            series = series_of(path)
        except Refused as refusal:
            tree.refused[path] = refusal.reason
            continue
        owners = [owner[first_of[uid]] for uid in series if first_of.get(uid) in owner]
        if not owners:
            tree.ignored[path] = "a segmentation of a series that is not taken"
        elif tree.candidates[owners[0]].label is not None:
            tree.ignored[path] = "a second segmentation of its series"
        else:
            tree.candidates[owners[0]] = replace(tree.candidates[owners[0]], label=path)


def _no_input(instance: Instance, *, named: bool) -> str | None:
    """Why a file is no part of a volume, whatever its series."""
    modality = instance.text("Modality").upper()
    if instance.text("SOPClassUID").startswith(SECONDARY_CAPTURE):
        return "a secondary capture: a picture of a screen or of paper"
    if modality not in ("MR", "CT"):
        return OBJECTS.get(modality, "no image" if not min(instance.size) else "neither MR nor CT")
    if not min(instance.size):
        return "no image in it"
    if int(instance.number("SamplesPerPixel") or 1) != 1:
        return "a colour image"
    if "LOCALIZER" in instance.image_type:
        return "a localizer"
    if "DERIVED" in instance.image_type[:1] and not named:
        return "derived from other images; dataset.yaml can name it as an image"
    return None


def _volume(instances: list[Instance], tree: Tree) -> _Series | None:
    """The volume of a series: of several sizes the commonest, of several times or echoes the first."""
    counts = Counter(sorted(one.size for one in instances))
    commonest = max(counts, key=counts.__getitem__)
    for other in [one for one in instances if one.size != commonest]:
        tree.ignored[other.path] = "another size than the rest of its series"
    instances = [one for one in instances if one.size == commonest]
    try:
        stack = stack_of(instances)
    except Refused as refusal:
        place = tree.ignored if isinstance(refusal, SeveralDirections) else tree.refused
        place.update((one.path, refusal.reason) for one in instances)
        return None
    known = {one.path: one for one in instances}
    for path in set(known) - set(stack.paths):
        tree.ignored[path] = "a later volume of its series (time, echo or b value); the first is taken"
    return _Series([known[path] for path in stack.paths], slices=stack.space.shape[2])


def _channel(volume: _Series, channels: Sequence[str], tree: Tree) -> str | None:
    """The channel a volume is, or None and its files ignored."""
    if _takes_any(channels):
        return channels[0]
    kind = kind_of(volume.instances[0])
    if kind and (channel := next((name for name in channels if known_as(name) == kind), None)):
        return channel
    what = f"a series of kind {kind}" if kind else "a series whose sequence cannot be told"
    tree.ignored.update(dict.fromkeys(volume.paths, f"{what}; the recipe takes {', '.join(channels)}"))
    return None


def _gather(volumes: Sequence[_Series], channels: Sequence[str], tree: Tree) -> None:
    """Subjects of the volumes: one for each study, or for each series where a recipe takes any series."""
    apart = _takes_any(channels)
    subjects: dict[tuple[str, ...], dict[str, list[_Series]]] = defaultdict(lambda: defaultdict(list))
    for volume in sorted(volumes, key=lambda v: (-v.slices, -int(np.prod(v.instances[0].size)), v.paths[0])):
        patient = volume.label("PatientID")
        study = volume.label("StudyInstanceUID") or str(volume.paths[0].parent)
        name: tuple[str, ...] = (patient, study, volume.label("SeriesInstanceUID")) if apart else (patient, study)
        assert volume.channel is not None
        subjects[name][volume.channel].append(volume)
    for name, found in sorted(subjects.items()):
        taken = _one_each(found, channels, tree)
        if not taken:
            continue
        images = {f"{c}/{n:04d}": path for c, volume in taken.items() for n, path in enumerate(volume.paths)}
        group = name[0] or name[1]  # without a patient's id a study stands alone
        tree.candidates.append(Candidate("/".join(_as_folder(part) for part in name if part), group, images))


def _one_each(found: dict[str, list[_Series]], channels: Sequence[str], tree: Tree) -> dict[str, _Series]:
    """The series of each channel in the recipe's order, of several the first that lies in the frame of reference of the
    first channel; none where that channel is missing. The files of the others are ignored."""
    taken: dict[str, _Series] = {}
    for channel in channels:
        for volume in found.get(channel, []):
            if channels[0] not in taken and channel != channels[0]:
                why = f"no {channels[0]} series in its study"
            elif not _one_frame(volume, taken.get(channels[0], volume)):
                why = f"another frame of reference than the {channels[0]} series of its study: not registered"
            elif channel in taken:
                why = f"a second {channel} series of its study; the one with more slices is taken"
            else:
                taken[channel] = volume
                continue
            tree.ignored.update(dict.fromkeys(volume.paths, why))
    return taken


def _one_frame(one: _Series, other: _Series) -> bool:
    """Whether positions in both mean the same place, as far as both say so."""
    frames = {one.label("FrameOfReferenceUID"), other.label("FrameOfReferenceUID")} - {""}
    return len(frames) < 2


def _takes_any(channels: Sequence[str]) -> bool:
    """Whether no channel is a kind of sequence, so that every series is a subject of its own."""
    return not {known_as(name) for name in channels} & set(KINDS)
