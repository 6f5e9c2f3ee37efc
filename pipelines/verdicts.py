"""verdicts: what is said of a file that several subjects share: a table of labels, or a recording cut into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domains.manifest import Record

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


def partly_refused(verdicts: Mapping[str, Record]) -> list[str]:
    """A line for each file (path -> its record) that was taken without some of its parts."""
    return [f"{path}: {r.reason}" for path, r in verdicts.items() if r.verdict == "accepted" and r.reason]
