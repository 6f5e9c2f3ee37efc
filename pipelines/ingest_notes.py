"""What a person should know of an ingest beside the counts: with names, so for the terminal only."""

from __future__ import annotations

from collections.abc import Sequence

from domains.domain import Scan
from domains.identity import Identity
from domains.manifest import Manifest

MOST_NAMES = 3


def same_names(scan: Scan, old: Manifest | None, identity: Identity) -> list[str]:
    """A warning for each namespace of the dataset that has patients or drives named as some of another one's source.

    They stay apart. Nothing is kept to find them: an id of the other namespace is computed anew and looked for.
    """
    if old is None:
        return []
    known = {subject.group_id for subject in old.subjects}
    names = dict.fromkeys(candidate.group for candidate in scan.candidates)
    notes = []
    for other in sorted(set(identity.whois(old.sources).values()) - {scan.namespace}):
        if same := [name for name in names if identity.keyed("group", other, name) in known]:
            notes.append(
                f"warning: {_counted(same)} alike in {scan.namespace!r} and in {other!r}, and kept apart. If they "
                "are the same, give both folders one namespace in dataset.yaml: else a split may part them"
            )
    return notes


def answered(scan: Scan, labelled: int) -> str:
    """How far a folder that was handed out to be labelled has come."""
    return f"{labelled} of the {len(scan.candidates)} images here have a label; only labels are taken from this folder"


def with_names(reason: str, names: Sequence[str]) -> str:
    """A reason as the terminal may have it."""
    return f"{reason}: {', '.join(names)}" if names else reason


def _counted(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    what = "patient or drive is" if len(names) == 1 else "patients or drives are"
    return f"{len(names)} {what} named ({', '.join(names[:MOST_NAMES])}{more})"
