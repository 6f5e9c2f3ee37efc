"""register: evaluation -> model version with lineage, and its encoder beside it, as `challenger`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domains.errors import UsageError
from domains.manifest import read_manifest
from domains.store import Store
from pipelines.model_card import figure, model_card
from pipelines.models import Loaded, open_model
from pipelines.registry import register_model
from pipelines.tracking import answering, sync


@dataclass(frozen=True)
class Registered:
    """Registry URIs of what was registered."""

    model: str
    encoder: str | None


def register(evaluation: Path, home: Path) -> Registered:
    """Registers an evaluated model under its recipe's name, and the encoder it started from.

    Raises:
        UsageError: not the folder of an evaluation, or its model is no longer in the store.
        Unreachable: MLflow does not answer; registering again goes on.
    """
    with answering(home):
        sync(home)  # else the runs that the versions come from may be missing there
        return _register(evaluation, home)


def _register(evaluation: Path, home: Path) -> Registered:
    file = Path(evaluation) / "evaluation.json"
    if not file.is_file():
        raise UsageError(f"no evaluation at {evaluation}; `selfsight evaluate --json` prints its folder")
    result = json.loads(file.read_text())
    store = Store(Path(home))
    model = store.get("finetune", result["model"])
    if model is None:
        raise UsageError(f"model {result['model']} is no longer in the store; train it again")
    loaded = open_model(model)
    name = result["recipe"].replace("_", "-")
    main = result["metrics"][result["primary"]]
    figures = {"primary": result["primary"], **{part: str(main[part]) for part in ("mean", "low", "high", "n")}}
    encoder_uri = None
    folder = store.get("pretrain", loaded.info["lineage"]["encoder"] or "")
    if folder is not None:
        encoder = open_model(folder)
        encoder_uri = register_model(
            store.home, encoder_name(name), folder, run_id=_run_id(store, f"pretrain-{folder.name}"),
            alias="challenger", tags=_lineage_tags(encoder.info), card=_card(encoder, [], store),
            description=f"{encoder.info['recipe']['objective']} encoder of {result['recipe']}",
        )  # fmt: skip
    uri = register_model(
        store.home, name, model, run_id=_run_id(store, f"evaluate-{Path(evaluation).name}"), alias="challenger",
        tags=_lineage_tags(loaded.info) | {"evaluation": Path(evaluation).name} | figures,
        description=f"{result['recipe']}: {result['primary']} {figure(main)} on {result['kind']} groups",
        card=_card(loaded, [result], store),
    )  # fmt: skip
    return Registered(uri, encoder_uri)


def encoder_name(name: str) -> str:
    """The registry's name of the encoders that the models of a name start from."""
    return f"{name}-encoder"


def _card(loaded: Loaded, evaluations: list[dict[str, Any]], store: Store) -> str:
    learned_from = store.get("manifest", loaded.info["lineage"].get("manifest") or "")
    manifest = read_manifest(learned_from) if learned_from else None
    return model_card(loaded, evaluations, manifest, {"weights.safetensors": loaded.info["sha256"]})


def _run_id(store: Store, run: str) -> str | None:
    file = store.home / "runs" / run / "run.json"
    if not file.exists():
        return None
    found: str | None = json.loads(file.read_text()).get("run_id")
    return found


def _lineage_tags(info: dict[str, Any]) -> dict[str, str]:
    lineage = info["lineage"]
    tags = {key: str(lineage[key]) for key in ("manifest", "labels", "encoder") if lineage.get(key)}
    return tags | {"weights_sha256": info["sha256"], "sources": json.dumps(lineage["sources"])}
