"""`selfsight demo`: the whole way on a generated archive, one broken file included, in a few minutes on two cores."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from domains.errors import UsageError
from flows.run import run

RECIPES = {"medical": "brain_tumor"}
SUBJECTS = 16
SEED = 0
SHORT = {
    "pretrain.steps": "150", "pretrain.batch_size": "8", "pretrain.warmup_steps": "20",
    "finetune.steps": "400", "finetune.batch_size": "8", "finetune.warmup_steps": "20",
}  # fmt: skip


def demo(kind: str, source: Path | None, home: Path) -> dict[str, Any]:
    """What `run` gives, and `seconds`, for a short training on `source` or on a generated archive below the home."""
    from domains.domain import find_recipe

    if kind not in RECIPES:
        raise UsageError(f"no demo of {kind!r}; demos are {', '.join(RECIPES)}")
    started = time.monotonic()
    domain, recipe = find_recipe(RECIPES[kind])
    if source is None:
        source = _archive(domain.generate, home / "demo" / f"{kind}-{SUBJECTS}-{SEED}")
    return run(recipe.changed(SHORT), source, home) | {"seconds": time.monotonic() - started}


def _archive(generate: Any, folder: Path) -> Path:
    """A generated archive with one truncated image in it, to show what becomes of a bad file; made once."""
    if not folder.exists():
        making = folder.with_name(folder.name + ".part")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        generate(making, SUBJECTS, SEED)
        whole = next(file for file in sorted(making.rglob("*")) if file.is_file() and file.stat().st_size > 20_000)
        broken = making / "broken" / whole.name
        broken.parent.mkdir()
        broken.write_bytes(whole.read_bytes()[:10_000])
        making.rename(folder)
    return folder
