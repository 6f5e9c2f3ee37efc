"""register: evaluation -> model version with lineage, and its encoder beside it, as `challenger`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domains.errors import UsageError
from domains.store import Store
from pipelines.checkpoint import read_model
from pipelines.registry import register_model


@dataclass(frozen=True)
class Registered:
    """Registry URIs of what was registered."""

    model: str
    encoder: str | None


def register(evaluation: Path, home: Path) -> Registered:
    """Registers an evaluated model under its recipe's name, and the encoder it started from.

    Raises:
        UsageError: not the folder of an evaluation, or its model is no longer in the store.
    """
    file = Path(evaluation) / "evaluation.json"
    if not file.is_file():
        raise UsageError(f"no evaluation at {evaluation}; `selfsight evaluate --json` prints its folder")
    result = json.loads(file.read_text())
    store = Store(Path(home))
    model = store.get("finetune", result["model"])
    if model is None:
        raise UsageError(f"model {result['model']} is no longer in the store; train it again")
    _, info = read_model(model)
    name = result["recipe"].replace("_", "-")
    lineage = _lineage_tags(info) | {"evaluation": Path(evaluation).name}
    main = result["metrics"][result["primary"]]
    figures = f"{result['primary']} {main['mean']:.3f} (n={main['n']}"
    figures += ")" if main["low"] is None else f", {main['low']:.3f} to {main['high']:.3f})"
    encoder_uri = None
    encoder = store.get("pretrain", info["lineage"]["encoder"] or "")
    if encoder is not None:
        _, encoder_info = read_model(encoder)
        encoder_uri = register_model(
            store.home, f"{name}-encoder", encoder,
            run_id=_run_id(store, f"pretrain-{encoder.name}"), alias="challenger", tags=_lineage_tags(encoder_info),
            description=f"{encoder_info['recipe']['objective']} encoder of {result['recipe']}",
        )  # fmt: skip
    uri = register_model(
        store.home, name, model, run_id=_run_id(store, f"evaluate-{Path(evaluation).name}"), alias="challenger",
        tags=lineage, description=f"{result['recipe']}: {figures} on {result['kind']} groups",
    )  # fmt: skip
    return Registered(uri, encoder_uri)


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
