"""Which files of a folder are X-ray images, and which row of the table beside them is whose."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from domains.domain import Candidate, Scan
from domains.errors import Refused, UsageError
from domains.medical import dataset_yaml
from domains.medical.dataset_yaml import DatasetYaml, read_dataset_yaml
from domains.medical.dicom.instance import Instance, looks_like_dicom, read_instance
from domains.medical.xray_dicom import stated_by, why_not
from domains.medical.xray_images import PICTURES
from domains.medical.xray_table import Row, Table, kind_of, plain, read_table
from domains.recipe import Recipe

TABLE = "labels.csv"
"""Preferred where there are several tables."""


def scan(source: Path, recipe: Recipe) -> Scan:
    """Images of a folder with their rows, before any pixel is read; the order is that of the names.

    A DICOM file's header names the patient where no table does; it tells sex, age band and view then.
    With a table an image without a row is left out, since its patient is not known and it could lie on both sides of a
    split. Without one, an image in a folder belongs to the patient of that name, any other is a patient of its own.

    Raises:
        UsageError: there is no such folder, or its table or dataset.yaml is not understood.
    """
    if not source.is_dir():
        raise UsageError(f"no folder at {source}")
    said = read_dataset_yaml(source) or DatasetYaml()
    images, tables, ignored = _sorted_out(source)
    refused: dict[Path, str] = {}
    headers = _headers(images, ignored, refused, captures=said.captures == "clean")
    images = [path for path in images if path not in ignored and path not in refused]
    chosen = next((path for path in tables if path.name == TABLE), tables[0] if tables else None)
    ignored |= {path: f"not {chosen.name if chosen else TABLE}, the table of labels" for path in tables[1:]}
    if chosen is None:
        candidates = _without_table(source, images, headers, recipe, said, ignored)
        layout = f"{len(images)} X-ray images without a table of labels"
    else:
        ignored.pop(chosen, None)
        ignored |= {path: f"not {chosen.name}, the table of labels" for path in tables if path != chosen}
        table = read_table(chosen)
        if not table.has_patients and not said.group:
            raise UsageError(
                f"{chosen} has no column for the patient, and a split by patient needs it: call it patient_id, or say "
                f"in {dataset_yaml.FILE} how the group follows from the file's name"
            )
        candidates, remark = _with_table(source, images, chosen, table, recipe, said, ignored)
        layout = f"X-ray images with the table {chosen.name}"
        if remark or not any(candidate.label for candidate in candidates):
            ignored[chosen] = remark or "no finding of the recipe is in it; patient, age, sex and view are"
    return Scan(
        layout=layout, namespace=said.namespace or source.resolve().name, candidates=candidates,
        ignored=dict(sorted(ignored.items())), refused=refused, statement=said.statement,
        labels_only=said.takes == "labels",
    )  # fmt: skip


def open_inputs(path: Path, recipe: Recipe) -> Sequence[Candidate]:
    """Candidates of a file given to `predict`.

    Raises:
        UsageError: nothing is there.
    """
    if not path.is_file():
        raise UsageError(f"no file at {path}")
    return [Candidate(path.stem, path.parent.name, {_channel(recipe): path}, notes=_unknown(recipe))]


def _sorted_out(source: Path) -> tuple[list[Path], list[Path], dict[Path, str]]:
    """Images and tables of images in order, and why each other file is neither."""
    images, tables, ignored = [], [], {}
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if any(part.startswith(".") for part in path.relative_to(source).parts):
                ignored[path] = "hidden"
            elif name == dataset_yaml.FILE and path.parent == source:
                ignored[path] = "describes the folder"
            elif name.lower().endswith(PICTURES) or looks_like_dicom(path):
                images.append(path)
            elif not name.lower().endswith(".csv"):
                ignored[path] = f"neither PNG nor JPEG nor DICOM ({path.suffix or 'no suffix'})"
            elif (kind := kind_of(path)) == "labels":
                tables.append(path)
            else:
                ignored[path] = (
                    "boxes: findings are learned from whole images" if kind == "boxes" else "no image column"
                )
    return sorted(images), sorted(tables), ignored


def _headers(
    images: Sequence[Path], ignored: dict[Path, str], refused: dict[Path, str], *, captures: bool
) -> dict[Path, Instance]:  # fmt: skip
    """Headers of the DICOM files that are X-rays; the others are ignored or refused."""
    found = {}
    for path in images:
        if path.name.lower().endswith(PICTURES):
            continue
        try:
            instance = read_instance(path)
            reason = why_not(instance, captures=captures)
        except Refused as refusal:
            refused[path] = refusal.reason
            continue
        if reason:
            ignored[path] = reason
        else:
            found[path] = instance
    return found


def _without_table(
    source: Path, images: Sequence[Path], headers: Mapping[Path, Instance], recipe: Recipe, said: DatasetYaml,
    ignored: dict[Path, str],
) -> list[Candidate]:  # fmt: skip
    found = []
    for path in images:
        name = path.relative_to(source).with_suffix("").as_posix()
        folders = [part for part in path.relative_to(source).parts[:-1] if part.lower() != "images"]
        patient = headers[path].text("PatientID") if path in headers else ""
        group = said.group_of(name) if said.group else patient or (folders[0] if folders else name)
        if group is None:
            ignored[path] = "the group pattern does not match"
        else:
            stated = {"facts": stated_by(headers[path])} if path in headers else {}
            found.append(Candidate(name, group, {_channel(recipe): path}, notes=_unknown(recipe) | stated))
    return found


def _with_table(
    source: Path, images: Sequence[Path], file: Path, table: Table, recipe: Recipe, said: DatasetYaml,
    ignored: dict[Path, str],
) -> tuple[list[Candidate], str]:  # fmt: skip
    """Candidates of the images with a row, and what does not add up between rows and files, in words."""
    classes: tuple[str, ...] = recipe.data.label_classes  # type: ignore[attr-defined]
    by_name = _named(source, images)
    of: dict[Path, str] = {}
    missing, ambiguous = 0, 0
    for image in [*table.rows, *table.contradicted]:
        matches = _files_of(image, by_name)
        missing, ambiguous = missing + (not matches), ambiguous + (len(matches) > 1)
        for path in matches if len(matches) == 1 else ():
            if of.setdefault(path, image) != image:
                ignored[path] = "two rows of the table name it"
    candidates = []
    for path in images:
        row = table.rows.get(of.get(path, ""))
        name = path.relative_to(source).with_suffix("").as_posix()
        group = said.group_of(name) if said.group else row.patient if row else None
        if path in ignored:
            continue
        if row is None:
            twice = of.get(path) in table.contradicted
            ignored[path] = "its rows contradict each other" if twice else "no row in the table names it alone"
        elif group is None:
            ignored[path] = "its patient is not known"
        else:
            candidates.append(_candidate(path, name, group, row, table, classes, file, recipe))
    return candidates, _remark(table, classes, missing, ambiguous)


def _candidate(
    path: Path, name: str, group: str, row: Row, table: Table, classes: Sequence[str], file: Path, recipe: Recipe
) -> Candidate:
    findings = {finding: table.cells(row, plain(finding)) for finding in classes}
    notes: dict[str, Any] = {"facts": dict(row.facts), "findings": findings}
    return Candidate(name, group, {_channel(recipe): path}, file if any(findings.values()) else None, notes)


def _named(source: Path, images: Sequence[Path]) -> Mapping[str, list[Path]]:
    """Path below the source, file name and stem -> images of that name."""
    found: dict[str, list[Path]] = {}
    for path in images:
        relative = path.relative_to(source)
        for name in dict.fromkeys((relative.as_posix(), path.name, relative.with_suffix("").as_posix(), path.stem)):
            found.setdefault(name, []).append(path)
    return found


def _files_of(image: str, by_name: Mapping[str, list[Path]]) -> list[Path]:
    """The images that a row names: by its whole path, else by the file's name."""
    return by_name.get(image) or by_name.get(image.rpartition("/")[2]) or []


def _remark(table: Table, classes: Sequence[str], missing: int, ambiguous: int) -> str:
    said = [
        (missing, f"{missing} of {table.count} rows name no file here"),
        (ambiguous, f"{ambiguous} rows name more than one file"),
        (table.repeated, f"{table.repeated} rows repeat an earlier one"),
        (len(table.contradicted), f"{len(table.contradicted)} images have rows that contradict each other"),
    ]
    unknown = [name for name in classes if plain(name) not in table.findings]
    said.append((len(unknown), f"it knows nothing of {', '.join(unknown)}"))
    return "; ".join(text for count, text in said if count)


def _channel(recipe: Recipe) -> str:
    name: str = recipe.data.channels[0]  # type: ignore[attr-defined]
    return name


def _unknown(recipe: Recipe) -> dict[str, Any]:
    """Notes of an image that no table speaks of."""
    return {"findings": dict.fromkeys(recipe.data.label_classes, "")}  # type: ignore[attr-defined]
