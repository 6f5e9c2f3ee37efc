"""A generated archive, ingested once, for the tests of the verbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from domains.domain import find_recipe
from domains.recipe import Recipe


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten generated heads with lesion masks."""
    domain, _ = find_recipe("brain_tumor")
    assert domain.generate is not None
    folder = tmp_path_factory.mktemp("archive") / "generated_heads"
    domain.generate(folder, 10, 0)
    return folder


@pytest.fixture
def quick(few_steps: Recipe) -> Recipe:
    """brain_tumor with a handful of steps."""
    return few_steps


@pytest.fixture(scope="session")
def few_steps() -> Recipe:
    """The same for fixtures that live longer."""
    _, recipe = find_recipe("brain_tumor")
    few = {"steps": "4", "batch_size": "2", "warmup_steps": "1", "checkpoint_every": "2"}
    short = {f"{verb}.{key}": value for verb in ("pretrain", "finetune") for key, value in few.items()}
    return recipe.changed(short | {"objective": "mae + anomaly_synthesis"})
