"""Candidates with the shapes that label them, and what became of the files of labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from domains.domain import Candidate


@dataclass
class Attached:
    """What `lane_files.attach` and `box_files.attach` give."""

    candidates: list[Candidate]
    ignored: dict[Path, str] = field(default_factory=dict)
    refused: dict[Path, str] = field(default_factory=dict)
    alike: dict[Path, list[str]] = field(default_factory=dict)
    """Refused file -> names of the frames that are not there."""
    names: Counter[str] = field(default_factory=Counter)
    """How many boxes the files have of each name."""
