"""continuing: a pretraining on data that has grown starts from the weights of the recipe's last encoder.

The line of a recipe's encoders is a pointer in the home, `encoders/<recipe>-<digest>.json`: what may differ along it is
the data and the length of the training, not the network, the objective or the preprocessing. The start's sha256 is part
of the key, and in the lineage.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from domains.erased import read_erased
from domains.manifest import Contract
from domains.recipe import Recipe, digest_of
from domains.store import Store, write_atomically
from pipelines.models import Loaded, open_model


def last_encoder(recipe: Recipe, store: Store, contract: Contract, held_out: Collection[str]) -> Loaded | None:
    """The encoder that the recipe's line ends with, or None where there is none to go on from.

    An encoder that saw a group which is held out now, or was erased since, is not gone on from: weights cannot forget.

    Args:
        recipe: whose line.
        store: where the encoders are.
        contract: of the data; encoders of other preprocessing are of another line.
        held_out: group ids.
    """
    file = _line(recipe, store.home, contract)
    folder = store.get("pretrain", json.loads(file.read_text())["encoder"]) if file.exists() else None
    if folder is None:
        return None
    last = open_model(folder)
    saw_erased = {
        one.sha256 for erased in read_erased(store.home).groups.values() for one in erased.seen if one.learned
    }
    saw_held_out = not set(held_out).isdisjoint(last.info["lineage"]["pretrain_groups"])
    return None if saw_held_out or last.info["sha256"] in saw_erased else last


def keep_last(recipe: Recipe, store: Store, contract: Contract, key: str) -> None:
    """Makes the encoder `key` the end of the recipe's line."""
    file = _line(recipe, store.home, contract)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"encoder": key}))


def put_into(module: Any, start: Loaded) -> bool:
    """Loads the decoder of `start` into an objective that has one of the same shapes; says whether it did."""
    if module.decoder is None:
        return False
    offered, wanted = start.part("decoder"), module.decoder.state_dict()
    if {k: v.shape for k, v in offered.items()} != {k: v.shape for k, v in wanted.items()}:
        return False
    module.decoder.load_state_dict(offered)
    return True


def inherited(start: Loaded | None) -> dict[str, Any]:
    """What an encoder's lineage takes over from the one it started from: all that its weights have seen."""
    if start is None:
        return {"pretrain_groups": [], "probed_groups": [], "sources": {}}
    before = start.info["lineage"]
    return {
        "pretrain_groups": before["pretrain_groups"], "probed_groups": before.get("probed_groups", []),
        "sources": before["sources"],
    }  # fmt: skip


def _line(recipe: Recipe, home: Path, contract: Contract) -> Path:
    same = [
        recipe.digest("domain", "objective", "encoder", "size", "data", "fold"),
        recipe.pretrain.control, contract.model_dump(mode="json", exclude={"num_classes"}),
    ]  # fmt: skip
    return home / "encoders" / f"{recipe.name}-{digest_of(same)[:8]}.json"
