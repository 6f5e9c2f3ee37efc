"""verdicts: what is said of a file that several subjects share: a table of labels, or a recording cut into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from domains.manifest import Record
from pipelines.ingest_notes import MOST_NAMES, with_names

VERDICTS = ("accepted", "label", "refused", "ignored")
"""Best first."""


def one_verdict(records: Sequence[Record], groups: Mapping[str, str]) -> Record:
    """What is said of a file: of one that several subjects share, the best that was made of it.

    They share a table of labels, or a recording, cut into parts. What the scan says about the file itself stays as the
    reason. It belongs to the first of them where all are of one group (`groups`, of the subjects), else to nobody.
    """
    best = min(records, key=lambda record: VERDICTS.index(record.verdict))
    if len(records) == 1:
        return best
    alike = [r.reason for r in records if r.reason and (r.verdict == best.verdict or r is records[-1])]
    if best.verdict == "accepted" and (lost := [r.reason for r in records if r.verdict == "refused"]):
        alike = [f"{len(lost)} of its {len(records)} parts refused: {'; '.join(dict.fromkeys(lost))}"]
    owners = {groups[r.subject_id] for r in records if r.subject_id in groups}
    owner = best.subject_id if len(owners) == 1 else ""
    return best.model_copy(update={"reason": "; ".join(dict.fromkeys(alike)), "subject_id": owner})


def by_verdict(
    refused: Sequence[tuple[str, str]], records: Mapping[str, Record], without: Mapping[tuple[str, str], Sequence[str]]
) -> tuple[list[tuple[str, str]], list[str]]:
    """What was refused as a whole, and notes on what was taken in part: a recording, a table of labels.

    Args:
        refused: (path, reason), also of parts.
        records: what is said of each path.
        without: names of the candidates that a (path, reason) leaves without a label.
    """
    notes = [f"{path}: {r.reason}" for path, r in records.items() if r.verdict == "accepted" and r.reason]
    whole = []
    for path, reason in refused:
        verdict = records[str(Path(path).absolute())].verdict
        if verdict == "refused":
            whole.append((path, reason))
        elif verdict == "label":
            names = without.get((path, reason), ())
            more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
            notes.append(f"{path}: {with_names(reason, [*names[:MOST_NAMES], *more])}")
    return whole, notes
