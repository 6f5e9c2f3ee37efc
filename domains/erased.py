"""Erased: groups that were removed on request, held back from every later ingest; what saw them before is named."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from domains.recipe import Frozen
from domains.store import write_atomically

WHY = "its group was erased"
"""What the manifest says of a file that is held back."""


class Seen(Frozen):
    """An encoder or a model that a group has left its trace in."""

    kind: str
    """"encoder" or "model"."""
    folder: str
    """Below the home, or the registry URI where the store has it no longer."""
    recipe: str
    sha256: str
    """Of the weights."""
    learned: tuple[str, ...] = ()
    """Which lists of its lineage named the group: label_groups, pretrain_groups, probed_groups."""
    judged: tuple[str, ...] = ()
    """Evaluations and studies (folders below the home) that judged it with the group."""
    registered: tuple[str, ...] = ()
    """Registry URIs, with aliases."""


class Erasure(Frozen):
    """One group that was erased."""

    since: str
    """Date, UTC."""
    content_digests: tuple[str, ...]
    """Of its subjects: the same pixels under another name are held back too."""
    seen: tuple[Seen, ...]


class Erased(Frozen):
    """`<home>/erased.json`: the only file of a home that still knows these groups."""

    groups: dict[str, Erasure] = Field(default_factory=dict)
    unfinished: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What an erasure that was stopped still has to remove; empty when there is none."""

    @property
    def content_digests(self) -> frozenset[str]:
        return frozenset(digest for one in self.groups.values() for digest in one.content_digests)


def read_erased(home: Path) -> Erased:
    """The list of a home; empty where nothing was erased."""
    file = Path(home) / "erased.json"
    return Erased.model_validate_json(file.read_text()) if file.exists() else Erased()


def keep_erased(erased: Erased, home: Path) -> None:
    """Replaces the list of a home."""
    write_atomically(Path(home) / "erased.json", erased.model_dump_json(indent=1))
