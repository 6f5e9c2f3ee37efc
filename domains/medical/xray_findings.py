"""Findings of X-rays as labels: yes, no or unknown for each, and crops that carry them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from domains.domain import Candidate, CropSource
from domains.errors import Refused
from domains.manifest import Contract
from domains.medical.xray_images import RawImage
from ssl_models.protocols import Batch

YES, NO, UNKNOWN = {"1", "yes", "true", "y"}, {"0", "no", "false", "n"}, {"", "-1", "u", "nan", "na", "unknown"}
"""Texts of a cell, "1.0" read as "1"; -1 is CheXpert's "uncertain"."""
FILE = "findings.json"


@dataclass(frozen=True)
class RawFindings:
    """What is said about one image."""

    findings: dict[str, int | None]
    """Finding of the recipe, in its order -> 1 there, 0 not there, None unknown."""
    digest: str


def read_label(candidate: Candidate, raw: RawImage, contract: Contract) -> RawFindings:
    """The findings in the candidate's row.

    Raises:
        Refused: a cell is neither yes, no nor unknown, or all are unknown.
    """
    said: Mapping[str, str] = candidate.notes["findings"]
    findings = {name: _answer(name, text) for name, text in said.items()}
    if all(value is None for value in findings.values()):
        raise Refused("every finding is unknown")
    return RawFindings(findings, hashlib.sha256(json.dumps(findings).encode()).hexdigest())


def write_label(raw: RawFindings, contract: Contract, folder: Path) -> dict[str, Any]:
    """Writes a label entry, one small JSON, and gives the findings as its facts."""
    (folder / FILE).write_text(json.dumps(raw.findings))
    return {name: value for name, value in raw.findings.items() if value is not None}


def read_findings(folder: Path) -> dict[str, int | None]:
    """Finding -> 1, 0 or None (unknown) of a label entry."""
    found: dict[str, int | None] = json.loads((Path(folder) / FILE).read_text())
    return found


@dataclass(frozen=True)
class WithFindings:
    """Crops whose targets are their subjects' findings."""

    source: CropSource
    labels: Sequence[Path]

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        """The crops, with targets (B * V, K) float32: 1, 0, or nan where it is not known."""
        found = [list(read_findings(self.labels[i]).values()) for i in subjects]
        rows = [[float("nan") if value is None else float(value) for value in row] for row in found]
        targets = torch.tensor(rows, dtype=torch.float32).repeat_interleave(crops, 0)
        return replace(self.source.batch(subjects, seeds, crops), targets=targets)


def _answer(name: str, text: str) -> int | None:
    word = text.strip().lower().removesuffix(".0")
    if word in UNKNOWN:
        return None
    if word not in YES | NO:
        raise Refused(f"the cell of {name} is neither 1, 0, -1 nor empty")
    return int(word in YES)
