"""Share of a training step spent waiting for data, in a real pretraining and fine-tuning on generated heads."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

STEPS = 60


def run() -> dict[str, float]:
    """Shares in 0..1 and samples/s of both verbs with the recipe's own batch sizes."""
    from domains.domain import find_recipe
    from pipelines.finetune import finetune
    from pipelines.ingest import ingest
    from pipelines.pretrain import pretrain

    domain, recipe = find_recipe("brain_tumor")
    assert domain.generate is not None
    recipe = recipe.changed({"pretrain.steps": str(STEPS), "finetune.steps": str(STEPS)})
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SELFSIGHT_KEY"] = str(Path(scratch) / "key")
        home = Path(scratch) / "home"
        domain.generate(Path(scratch) / "heads", 12, 0)
        ingest(Path(scratch) / "heads", recipe, home)
        outcomes = {
            "pretrain": pretrain(recipe, home).outcome,
            "finetune": finetune(recipe, home, encoder=None).outcome,
        }
    figures = {}
    for verb, outcome in outcomes.items():
        figures[f"{verb}_data_wait_share"] = round(outcome["data_wait_share"], 4)
        figures[f"{verb}_samples_per_s"] = round(outcome["samples_per_second"], 2)
    return figures


if __name__ == "__main__":
    print(json.dumps(run()))
