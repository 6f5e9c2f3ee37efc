"""promote, rollback: who is champion, decided by the gate and kept as decisions; a kill between two moves is mended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from domains.errors import UsageError
from domains.manifest import read_manifest
from domains.store import Store, write_atomically
from pipelines.evaluate import DETAILS, evaluations_of
from pipelines.gate import Challenge, Judged, Limits, judge
from pipelines.models import Loaded, open_model
from pipelines.register import encoder_name
from pipelines.registry import (
    CARD,
    Model,
    aliases_of,
    artifacts_folder,
    find_version,
    note_decision,
    registry_locked,
    set_alias,
    weights_folder,
    with_weights,
)
from pipelines.trial import try_out

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous_champion", "challenger"
SCHEMA_VERSION = 1

Decision = dict[str, Any]
"""One JSON file of `<home>/decisions/<name>/`; names no group."""
Moves = list[tuple[str, str, str | None]]
"""Registered name, alias, and the version that gets it (None: nobody)."""


def promote(
    reference: str, home: Path, *, approved_by: str, reason: str, limits: Limits | None = None
) -> Decision:  # fmt: skip
    """Makes a version the champion of its name, and its encoder that of its own, if the gate lets it.

    A promotion or rollback that was killed is finished first; if it was this version's, its decision is the answer.

    Args:
        reference: "models:/name@challenger" or the like.
        home: of store and registry.
        approved_by: who takes the responsibility.
        reason: why.
        limits: the numbers of the gate.

    Returns:
        The decision: "accepted", "conditions" (all of them), "file" and what was decided on.

    Raises:
        UsageError: there is no such version, or the champion changed while this one was judged.
    """
    limits, finished = limits or Limits(), finish(home)
    version = find_version(home, reference)
    if finished and finished["accepted"] and (finished["action"], finished["model"]) == ("promote", version["uri"]):
        return finished
    name, aliases = version["name"], aliases_of(home, version["name"])
    champion = find_version(home, f"models:/{name}@{CHAMPION}") if CHAMPION in aliases else None
    folder = weights_folder(home, version)
    loaded = open_model(folder)
    challenge = _challenge(loaded, version, champion, home, approved_by, reason)
    conditions = judge(challenge, limits)
    accepted = all(condition.met for condition in conditions)
    encoder = _encoder(loaded, name, home)
    decision = _decision("promote", version, approved_by, reason) | {
        "accepted": accepted, "champion_before": champion["uri"] if champion else None,
        "weights_sha256": loaded.info["sha256"], "encoder": encoder["uri"] if encoder else None,
        "evaluation": challenge.judged.key if challenge.judged else None,
        "judged_digest": challenge.judged.result.get("judged_digest") if challenge.judged else None,
        "champion_evaluation": challenge.champion.key if challenge.champion else None,
        "limits": asdict(limits), "measured": asdict(challenge.trial),
        "conditions": [asdict(condition) for condition in conditions],
    }  # fmt: skip
    with registry_locked(home):
        if aliases_of(home, name) != aliases:
            raise UsageError(f"the aliases of {name} changed while {version['uri']} was judged: run it again")
        moves = [move for one in (version, encoder) if one and accepted for move in _moves(one, home)]
        return _carry_out(decision | {"moves": moves}, home)


def rollback(name: str, home: Path, *, approved_by: str, reason: str) -> Decision:
    """Makes the previous champion of a name the champion again: one move of one alias.

    Raises:
        UsageError: there is no previous champion, or nobody approves.
    """
    if not (approved_by.strip() and reason.strip()):
        raise UsageError("--approved-by says who takes the champion back, --reason why")
    finish(home)
    name = name.removeprefix("models:/").partition("@")[0].partition("/")[0]
    with registry_locked(home):
        aliases = aliases_of(home, name)
        if CHAMPION not in aliases:
            raise UsageError(f"{name} has no champion to take back; `selfsight registry` lists the models")
        if aliases.get(PREVIOUS, aliases[CHAMPION]) == aliases[CHAMPION]:
            raise UsageError(
                f"{name} has no champion before version {aliases[CHAMPION]}: there is nothing to go back to"
            )
        before, after = (find_version(home, f"models:/{name}/{aliases[alias]}") for alias in (CHAMPION, PREVIOUS))
        decision = _decision("rollback", after, approved_by, reason)
        decision |= {"accepted": True, "champion_before": before["uri"], "moves": [(name, CHAMPION, aliases[PREVIOUS])]}
        return _carry_out(decision, home)


def finish(home: Path) -> Decision | None:
    """Carries out what a killed promotion or rollback had decided; its decision, or None where there is none."""
    with registry_locked(home):
        file = _pending(home)
        return _carry_out(json.loads(file.read_text()), home) if file.exists() else None


def unfinished(home: Path) -> Decision | None:
    """The decision that a kill has left half carried out."""
    file = _pending(home)
    return json.loads(file.read_text()) if file.exists() else None


def decisions_of(home: Path, name: str) -> list[Decision]:
    """Every decision about a registered name, oldest first."""
    return [json.loads(file.read_text()) for file in sorted((Path(home) / "decisions" / name).glob("*.json"))]


def _pending(home: Path) -> Path:
    return Path(home) / "decisions" / "pending.json"


def _decision(action: str, version: Model, approved_by: str, reason: str) -> Decision:
    now = datetime.now(UTC)
    return {
        "schema_version": SCHEMA_VERSION, "action": action, "model": version["uri"], "name": version["name"],
        "version": version["version"], "decided_at": now.isoformat(timespec="seconds"),
        "file": f"decisions/{version['name']}/{now:%Y%m%dT%H%M%S%f}-{action}-{version['version']}.json",
        "approved_by": approved_by.strip(), "reason": reason.strip(),
    }  # fmt: skip


def _carry_out(decision: Decision, home: Path) -> Decision:
    """Moves the aliases and keeps the decision; the caller holds the registry.

    What is to be done is on disk before the first move and goes after the last: whoever holds the registry next does
    all of it once more. At every moment `champion` names a version that passed the gate.
    """
    pending, file = _pending(home), Path(home) / decision["file"]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(pending, json.dumps(decision, indent=1))
    for name, alias, version in decision["moves"]:
        set_alias(home, name, alias, version)
    write_atomically(file, json.dumps(decision, indent=1))
    told = "accepted" if decision["accepted"] else "refused"
    tags = {"last_decision": f"{decision['action']} {told} {decision['decided_at']}"}
    if decision["accepted"]:
        tags |= {"approved_by": decision["approved_by"], "approval_reason": decision["reason"]}
    note_decision(home, find_version(home, decision["model"]), file, tags)
    pending.unlink()
    return decision


def _moves(version: Model, home: Path) -> Moves:
    """The old champion is kept as the previous one first, so that there is always a champion."""
    name, number = version["name"], str(version["version"])
    aliases = aliases_of(home, name)
    if aliases.get(CHAMPION) == number:
        return []
    moves: Moves = [(name, PREVIOUS, aliases[CHAMPION])] if CHAMPION in aliases else []
    moves.append((name, CHAMPION, number))
    return [*moves, (name, CHALLENGER, None)] if aliases.get(CHALLENGER) == number else moves


def _encoder(loaded: Loaded, name: str, home: Path) -> Model | None:
    """The registered encoder that a model started from."""
    found = with_weights(home, encoder_name(name), loaded.info["lineage"].get("encoder_sha256") or "none")
    return found[0] if found else None


def _challenge(
    loaded: Loaded, version: Model, champion: Model | None, home: Path, approved_by: str, reason: str
) -> Challenge:  # fmt: skip
    store, artifacts = Store(Path(home)), artifacts_folder(home, version)
    judged = _judged(version["tags"].get("evaluation", ""), loaded, store)
    card = artifacts / CARD
    return Challenge(
        lineage=loaded.info["lineage"], weights_sha256=loaded.info["sha256"], judged=judged,
        champion=_same_cases(champion, judged, store) if champion else None, has_champion=champion is not None,
        trial=try_out(artifacts, loaded.folder, _subject(judged, loaded, store) if judged else None),
        card=card.read_text() if card.is_file() else "", approved_by=approved_by, reason=reason,
    )  # fmt: skip


def _judged(key: str, loaded: Loaded, store: Store) -> Judged | None:
    """An evaluation of the store, with what pools its cases where the primary metric is one of sets."""
    folder = store.get("evaluate", key) if key else None
    if folder is None:
        return None
    result = json.loads((folder / "evaluation.json").read_text())
    if not (folder / DETAILS).is_file():
        return Judged(key, result)
    details = {one["subject_id"]: one for one in json.loads((folder / DETAILS).read_text())}
    return Judged(key, result, loaded.domain.head(loaded.recipe).pool, details)


def _same_cases(champion: Model, judged: Judged | None, store: Store) -> Judged | None:
    """The champion's evaluation on the challenger's cases, which may have been made later; else its own."""
    loaded = open_model(weights_folder(store.home, champion))
    if judged is not None:
        for key, result in evaluations_of(loaded, store.home).items():
            if result.get("judged_digest") == judged.result.get("judged_digest"):
                return _judged(key, loaded, store)
    return _judged(champion["tags"].get("evaluation", ""), loaded, store)


def _subject(judged: Judged, loaded: Loaded, store: Store) -> Path | None:
    """The entry of a judged subject that the store still has."""
    folder = store.get("manifest", judged.result["manifest"])
    folder = folder or store.get("manifest", loaded.info["lineage"]["manifest"])
    subjects: Sequence[Any] = read_manifest(folder).subjects if folder else ()
    entries = (store.get("ingest", s.entry) for s in subjects if s.subject_id in judged.cases)
    return next((entry for entry in entries if entry is not None), None)
