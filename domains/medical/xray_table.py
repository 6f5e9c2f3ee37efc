"""The table beside X-ray images: which patient, age, sex, view and findings belong to which file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domains.errors import UsageError

COLUMNS = {
    "image": ("image", "image_index", "image_id", "filename", "file", "path"),
    "patient": ("patient_id", "patient", "subject_id", "patientid"),
    "findings": ("finding_labels", "findings", "labels"),
    "age": ("age", "patient_age", "age_years"),
    "sex": ("sex", "gender", "patient_sex", "patient_gender"),
    "view": ("view", "view_position", "ap_pa", "viewposition", "projection"),
}
"""What is looked for -> names of its column, in plain words; the first that is there."""
BOX = {"x", "y", "w", "h"}
"""Columns of a table of boxes, which is another table."""
OLDEST = 120
"""Years; above it an age is a typing error."""


@dataclass(frozen=True)
class Row:
    """What a table says about one image."""

    patient: str | None
    """Never stored, only hashed."""
    facts: Mapping[str, Any]
    """"sex" ("F", "M"), "age_band" ("30-39", "90+"), "view" ("AP", "PA"); None where it is not known."""
    findings: Mapping[str, str]
    """Finding, in plain words -> text of its cell; of a list of findings "1" for each that is in it."""


@dataclass(frozen=True)
class Table:
    """A table as read."""

    rows: Mapping[str, Row]
    """Image as written in the table -> its row."""
    contradicted: frozenset[str]
    """Images with two rows that differ; they are in no row."""
    count: int
    """Of rows that name an image."""
    repeated: int
    """Rows that say the same as an earlier one."""
    findings: frozenset[str]
    """Every finding the table knows, in plain words."""
    listed: bool
    """Whether findings are a list in one column: one that is not in it was not found."""
    has_patients: bool

    def cells(self, row: Row, finding: str) -> str:
        """The text about a finding, empty when the table does not know it."""
        if self.listed and finding in self.findings:
            return row.findings.get(finding, "0")
        return row.findings.get(finding, "")


def plain(text: str) -> str:
    """Words in lower case with underscores: "Pleural Thickening" -> "pleural_thickening"."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def kind_of(path: Path) -> str:
    """ "labels" for a table of images, "boxes" for one of boxes, else "other"."""
    names = set(_columns(_header(path)))
    if not names & set(COLUMNS["image"]):
        return "other"
    return "boxes" if names >= BOX else "labels"


def read_table(path: Path) -> Table:
    """Every row of a table; commas, semicolons or tabs between its cells, a byte order mark is skipped.

    Raises:
        UsageError: it is not UTF-8 text, has no column for the image, or one name twice.
    """
    header = _header(path)
    names = _columns(header)
    at = {what: next((names.index(n) for n in known if n in names), None) for what, known in COLUMNS.items()}
    if at["image"] is None:
        raise UsageError(f"{path} has no column for the image; call it image (columns: {', '.join(names)})")
    if twice := {name for name in names if name and names.count(name) > 1}:
        raise UsageError(f"{path} has the column {', '.join(sorted(twice))} twice")
    rows: dict[str, Row] = {}
    contradicted, count, repeated = set(), 0, 0
    taken = set(at.values())
    own = [i for i in range(len(names)) if i not in taken] if at["findings"] is None else []
    for cells in _lines(path, header):
        cells += [""] * (len(names) - len(cells))
        image = cells[at["image"]].strip().replace("\\", "/")
        if not image:
            continue
        count += 1
        row = _row(cells, names, at, own)
        if image in rows and rows[image] != row:
            contradicted.add(image)
        repeated += image in rows and rows[image] == row
        rows[image] = row
    known = {finding for row in rows.values() for finding in row.findings}
    return Table(
        rows={image: row for image, row in rows.items() if image not in contradicted},
        contradicted=frozenset(contradicted), count=count, repeated=repeated, findings=frozenset(known),
        listed=at["findings"] is not None, has_patients=at["patient"] is not None,
    )  # fmt: skip


def _row(cells: Sequence[str], names: Sequence[str], at: Mapping[str, int | None], own: Sequence[int]) -> Row:
    def text(what: str) -> str:
        place = at[what]
        return cells[place].strip() if place is not None else ""

    listed = {plain(one): "1" for one in re.split(r"[|;,]", text("findings")) if plain(one)}
    findings = listed or {names[i]: cells[i].strip() for i in own}
    facts = facts_of(text("sex"), text("age"), text("view"))
    return Row(text("patient") or None, facts, findings)


def facts_of(sex: str, age: str, view: str) -> dict[str, str | None]:
    """Sex, age band and view as `Row.facts` has them, from what a table or a header says."""
    return {"sex": _sex(sex), "age_band": age_band(age), "view": _view(view)}


def age_band(text: str) -> str | None:
    """The decade of an age such as "58", "58.0" or "058Y"; None when it is no age of a person in years."""
    found = re.fullmatch(r"0*(\d+)(?:\.\d+)?\s*[Yy]?", text)
    if found is None or int(found[1]) > OLDEST:
        return None
    decade = int(found[1]) // 10 * 10
    return "90+" if decade >= 90 else f"{decade}-{decade + 9}"


def _sex(text: str) -> str | None:
    first = text[:1].upper()
    return first if first in ("F", "M") else None


def _view(text: str) -> str | None:
    words = set(plain(text).upper().split("_"))
    return next((view for view in ("AP", "PA", "LATERAL") if view in words), None)


def _header(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.readline()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8; save it as CSV in UTF-8") from None


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _columns(header: str) -> list[str]:
    cells = next(csv.reader([header], delimiter=_delimiter(header)), [])
    return [plain(cell) for cell in cells]


def _lines(path: Path, header: str) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file, delimiter=_delimiter(header)))[1:]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}") from None
