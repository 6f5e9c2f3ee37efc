"""Contract, Record and Manifest: how data was prepared, what was taken, and why the rest was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from domains.errors import ContractMismatch
from domains.recipe import Frozen, digest_of
from ssl_models.protocols import Geometry

SCHEMA_VERSION = 1
Verdict = Literal["accepted", "refused", "label", "ignored"]


class Contract(Frozen):
    """The preprocessing contract: how raw data became the tensors a network saw. Part of every checkpoint."""

    domain: str
    version: int
    """Of the domain's preprocessing code; bumped by hand when its output changes."""
    in_channels: int
    num_classes: int
    """Of the head's labels: classes with the background, or findings that are each there or not by itself."""
    crop_shape: tuple[int, ...]
    pooling: tuple[tuple[int, ...], ...]
    patch_shape: tuple[int, ...]
    time_axis: bool = False
    """Whether the first axis of a crop is time."""
    actions: tuple[str, ...] = ()
    """Names of the ego-motion figures a crop carries, with units, e.g. "speed_m_per_s"."""
    rules: dict[str, Any]
    """Domain rules as JSON: orientation, axis order, spacing in mm, intensity rule, channels; frame rate, size."""

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.crop_shape, self.pooling, self.patch_shape, self.time_axis, len(self.actions))

    def input_rules(self) -> dict[str, Any]:
        """What decides the tensors an encoder sees; `num_classes` and the crop's size do not."""
        return {"domain": self.domain, "version": self.version, "in_channels": self.in_channels, **self.rules}

    def check(self, other: Contract, *, mine: str, theirs: str, may_differ: Collection[str] = ()) -> None:
        """Raises ContractMismatch naming both sides unless both prepare inputs in the same way.

        Args:
            other: the contract to compare with.
            mine: this side in words.
            theirs: the other side in words.
            may_differ: keys of `input_rules` that the caller takes care of.
        """
        here, there = self.input_rules(), other.input_rules()
        differing = [key for key in sorted(here | there) if here.get(key) != there.get(key) and key not in may_differ]
        if differing:
            lines = [f"  {key}: {mine} has {here.get(key)!r}, {theirs} has {there.get(key)!r}" for key in differing]
            raise ContractMismatch("preprocessing differs:\n" + "\n".join(lines))


class Record(Frozen):
    """One input file and its verdict. No name, no path: `file_id` is keyed, `selfsight whois` resolves it."""

    file_id: str
    verdict: Verdict
    reason: str = ""
    subject_id: str = ""


class Subject(Frozen):
    """One accepted volume, image or recording in the store."""

    subject_id: str
    group_id: str
    split_bucket: int = Field(ge=0, lt=1000)
    """Unkeyed hash of (namespace, group) computed at the door: decides the split."""
    entry: str
    """Store key of stage "ingest"."""
    content_digest: str
    """sha256 of the decoded content: the same pixels twice are found by it."""
    facts: dict[str, Any]
    """Shape, spacing, site, quality figures: what the report prints."""


class Manifest(Frozen):
    """What an archive gave: every file's verdict, every accepted subject. Never a label."""

    schema_version: int = SCHEMA_VERSION
    recipe: str
    contract: Contract
    sources: dict[str, str]
    """Keyed id of the namespace -> licence and origin as stated by its dataset.yaml, or "not stated"."""
    records: tuple[Record, ...]
    subjects: tuple[Subject, ...]

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json"))

    def counts(self) -> dict[str, int]:
        """found = accepted + refused + labels + ignored (input files), and subjects and groups beside it."""
        verdicts = Counter(record.verdict for record in self.records)
        return {
            "found": len(self.records),
            "accepted": verdicts["accepted"],
            "refused": verdicts["refused"],
            "labels": verdicts["label"],
            "ignored": verdicts["ignored"],
            "subjects": len(self.subjects),
            "groups": len({subject.group_id for subject in self.subjects}),
        }


class Labels(Frozen):
    """Labels of a dataset: a manifest of their own, so that a new mask never invalidates an encoder."""

    schema_version: int = SCHEMA_VERSION
    recipe: str
    entries: dict[str, str]
    """Subject id -> store key of stage "label"."""

    @property
    def digest(self) -> str:
        return digest_of(self.model_dump(mode="json"))


def read_manifest(path: Path) -> Manifest:
    """The manifest in a store entry or file."""
    file = path / "manifest.json" if path.is_dir() else path
    return Manifest.model_validate_json(file.read_text())
