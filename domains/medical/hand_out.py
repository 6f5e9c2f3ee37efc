"""Cases for whoever draws labels: a folder that viewers open, and from which `scan` takes the answers and nothing else.

    dataset.yaml                  says that labels alone are taken
    <case>/<channel>/...          the source's own file, or the files of its series in order
    <case>/draft.nii.gz           a guess to correct; never taken for an answer
    <case>/mask.nii.gz            the answer, as a viewer saves it

Of X-rays: one image a case, and a labels.csv with an empty cell for each finding.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from domains.domain import Case, HandedOut
from domains.errors import UsageError
from domains.medical import dataset_yaml
from domains.medical.heads import HEADS
from domains.medical.heads.segmentation import clean_up
from domains.medical.layout import DRAFT
from domains.medical.readers import write_mask
from domains.medical.sources import files_of, is_nifti, space_of
from domains.medical.xray_layout import TABLE
from domains.recipe import Recipe

ANSWER = "mask.nii.gz"


def hand_out_volumes(cases: Sequence[Case], recipe: Recipe, out: Path) -> HandedOut:
    """Volumes with drafts on their own grid.

    Raises:
        UsageError: some have a real and some a nominal spacing, which one folder cannot say.
    """
    channels: tuple[str, ...] = recipe.data.channels  # type: ignore[attr-defined]
    spacings = {case.candidate.notes.get("spacing", "real") for case in cases}
    if len(spacings) > 1:
        raise UsageError("some of these cases have a nominal spacing and some a real one: hand out fewer at a time")
    patterns = {channel: f"{{subject}}/{channel}/*" for channel in channels}
    label = f"{{subject}}/{ANSWER.removesuffix('.gz')}*"
    _say(out, {"takes": "labels", "spacing": spacings.pop(), "images": patterns, "label": label})
    drafts = []
    for case in cases:
        for channel in channels:
            _copy(files_of(case.candidate, channel), out / case.folder / channel)
        drafts.append(_draft(case, channels[0], out))
    return HandedOut([f"{case.folder}/{ANSWER}" for case in cases], drafts, _how_to_draw(recipe))


def hand_out_xrays(cases: Sequence[Case], recipe: Recipe, out: Path) -> HandedOut:
    """X-ray images with a table to fill in; no guess is shown, since a finding has no outline to correct."""
    findings: tuple[str, ...] = recipe.data.label_classes  # type: ignore[attr-defined]
    # every image is in the dataset already, so none brings text in its pixels that was not there before
    _say(out, {"takes": "labels", "captures": "clean"})
    rows = []
    for case in cases:
        source = next(iter(case.candidate.images.values()))
        name = case.folder + (source.suffix or ".dcm")
        shutil.copyfile(source, out / name)
        rows.append([name, case.candidate.group, *[""] * len(findings)])
    with (out / TABLE).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["image", "patient_id", *findings], *rows])
    how = [
        f"Look at the images and fill in {TABLE}: 1 where a finding is there, 0 where it is not.",
        "An empty cell says nothing; a row without any answer is no label.",
    ]
    return HandedOut([f"{TABLE}, row {row[0]}" for row in rows], [""] * len(rows), how)


def _say(out: Path, what: dict[str, Any]) -> None:
    (out / dataset_yaml.FILE).write_text(yaml.safe_dump(what, sort_keys=False))


def _copy(files: Sequence[Path], folder: Path) -> None:
    """A NIfTI file keeps its name, slices are numbered in their order."""
    for number, path in enumerate(files):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / (path.name if is_nifti(path) else f"{number:04d}.dcm"))


def _draft(case: Case, channel: str, out: Path) -> str:
    """Writes the draft on the grid of the channel; its path below `out`, "" where nothing was guessed."""
    if case.draft is None:
        return ""
    space = space_of(case.candidate, channel)
    known = space.spacing_known and case.candidate.notes.get("spacing") != "nominal"
    mask = clean_up(case.draft, space.spacing_mm if known else None)
    if not mask.any():
        return ""
    path = f"{case.folder}/{DRAFT}.nii.gz"
    write_mask(out / path, mask, space)
    return path


def _how_to_draw(recipe: Recipe) -> list[str]:
    names: tuple[str, ...] = recipe.data.label_classes  # type: ignore[attr-defined]
    values = ", ".join(f"{k} {name}" for k, name in enumerate(names, 1))
    empty = (
        "An empty mask says that there is nothing to outline." if HEADS[recipe.head].may_be_empty
        else "An empty mask is refused."
    )  # fmt: skip
    return [
        "Open the image of a case in a viewer (3D Slicer, ITK-SNAP), and lay the draft over it where there is one.",
        f"Values of a mask: 0 background, {values}. {empty}",
        f"Save it on the image's own grid as <case>/{ANSWER}. Of a DICOM series a DICOM SEG with any name does too.",
        "A draft is a guess: it counts only once it is saved under the answer's name.",
    ]
