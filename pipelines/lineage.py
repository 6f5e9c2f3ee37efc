"""lineage: what made a model, from its sources to the decisions about it; and which models saw a patient or drive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from domains.erased import Seen
from domains.manifest import read_manifest
from domains.store import Store
from pipelines.checkpoint import read_model
from pipelines.erase import plan_erasure
from pipelines.promote import decisions_of
from pipelines.register import encoder_name
from pipelines.registry import Model, find_version, resolve, with_weights


def made_by(reference: str, home: Path) -> dict[str, Any]:
    """Sources -> manifest -> labels -> encoder -> model -> evaluation -> decisions, with the digest of each.

    Args:
        reference: registry URI or folder of a model or encoder.
        home: whose store and registry are asked; what the store has no longer is told by its key alone.
    """
    store = Store(Path(home))
    folder = resolve(home, reference)
    version = find_version(home, reference) if reference.startswith("models:/") else None
    _, info = read_model(folder)
    lineage = info["lineage"]
    return {
        "sources": [{"id": i, "statement": statement} for i, statement in lineage.get("sources", {}).items()],
        "manifest": _manifest(store, lineage.get("manifest") or ""),
        "labels": {"key": lineage.get("labels"), "groups": len(lineage.get("label_groups", ()))},
        "encoder": _encoder(store, lineage, version),
        "model": {
            "kind": info["kind"], "recipe": info["recipe"]["name"], "key": folder.name, "sha256": info["sha256"],
            "uri": version["uri"] if version else None, "aliases": version["aliases"] if version else [],
            "run": version["run_id"] if version else None, "versions": info.get("versions", {}),
        },
        "evaluation": _evaluation(store, version["tags"].get("evaluation", "") if version else ""),
        "decisions": _decisions(home, version) if version else [],
    }  # fmt: skip


def saw(group_id: str, home: Path) -> tuple[Seen, ...]:
    """Every encoder and model that learned from a group or was judged with it, also where the group was erased since.

    Raises:
        UsageError: the home does not know the group.
    """
    return plan_erasure(group_id, home).seen


def _manifest(store: Store, key: str) -> dict[str, Any]:
    folder = store.get("manifest", key)
    if folder is None:
        return {"key": key, "digest": None}
    manifest = read_manifest(folder)
    return {"key": key, "digest": manifest.digest, **manifest.counts()}


def _encoder(store: Store, lineage: dict[str, Any], version: Model | None) -> dict[str, Any] | None:
    if not lineage.get("encoder"):
        return None
    found = with_weights(store.home, encoder_name(version["name"]), lineage["encoder_sha256"]) if version else []
    folder = store.get("pretrain", lineage["encoder"])
    objective = json.loads((folder / "model.json").read_text())["recipe"]["objective"] if folder else None
    return {
        "key": lineage["encoder"], "sha256": lineage["encoder_sha256"], "objective": objective,
        "groups": len(lineage.get("pretrain_groups", ())), "uri": found[0]["uri"] if found else None,
        "aliases": found[0]["aliases"] if found else [],
    }  # fmt: skip


def _evaluation(store: Store, key: str) -> dict[str, Any] | None:
    folder = store.get("evaluate", key) if key else None
    if folder is None:
        return {"key": key, "judged_digest": None} if key else None
    result = json.loads((folder / "evaluation.json").read_text())
    kept = ("judged_digest", "kind", "within_group", "transductive", "primary")
    return {"key": key, **{name: result.get(name) for name in kept}, "figure": result["metrics"][result["primary"]]}


def _decisions(home: Path, version: Model) -> list[dict[str, Any]]:
    """Those that were about the version, or took the championship from it."""
    kept = ("action", "accepted", "model", "champion_before", "decided_at", "approved_by", "reason", "file")
    mine = [
        one for one in decisions_of(home, version["name"]) if version["uri"] in (one["model"], one["champion_before"])
    ]
    return [
        {name: one[name] for name in kept} | {"failed": [c["name"] for c in one.get("conditions", ()) if not c["met"]]}
        for one in mine
    ]
