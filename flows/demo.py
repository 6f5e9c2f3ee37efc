"""`selfsight demo`: the whole way on a generated archive, one broken file included, in a few minutes on two cores."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domains.errors import UsageError
from flows.run import run

SEED = 0
UNSEEN_SUBJECTS, UNSEEN_SEED = 20, 3

Generate = Callable[[Path, int, int], None]


@dataclass(frozen=True)
class Demo:
    """What is run, and on what."""

    recipe: str
    subjects: int
    short: Mapping[str, str]
    """Changes of the recipe that make it short."""
    broken: str
    """Pattern of files, the first large one of which is there once more, truncated."""
    unseen: str | None = None
    """Pattern of a file of another archive, on which the model predicts at the end."""


STEPS = {
    "pretrain.steps": "150", "pretrain.batch_size": "8", "pretrain.warmup_steps": "20",
    "finetune.steps": "400", "finetune.batch_size": "8", "finetune.warmup_steps": "20",
}  # fmt: skip
DEMOS = {
    "medical": Demo("brain_tumor", 16, STEPS, "*"),
    "driving": Demo(
        "dashcam_lanes", 80,
        STEPS | {"pretrain.steps": "60", "finetune.steps": "300"}, "*.mp4", unseen="*.mp4",
    ),
}  # fmt: skip


def demo(kind: str, source: Path | None, home: Path) -> dict[str, Any]:
    """A short training on `source` or on a generated archive below the home.

    Returns:
        what `run` gives, and `seconds`; `overlay`, files that show the model on a recording it has not seen, where the
        demo ends so and the archive is generated.
    """
    from domains.domain import find_recipe

    if kind not in DEMOS:
        raise UsageError(f"no demo of {kind!r}; demos are {', '.join(DEMOS)}")
    started, asked = time.monotonic(), DEMOS[kind]
    domain, recipe = find_recipe(asked.recipe)
    assert domain.generate is not None
    archive = source or _archive(domain.generate, home / "demo" / f"{kind}-{asked.subjects}-{SEED}", asked)
    answer = run(recipe.changed(asked.short), archive, home)
    if source is None and asked.unseen:
        answer["overlay"] = _on_unseen(domain.generate, answer["model"], asked.unseen, home / "demo" / f"{kind}-unseen")
    return answer | {"seconds": time.monotonic() - started}


def _archive(generate: Generate, folder: Path, asked: Demo) -> Path:
    """A generated archive with one truncated file in it, to show what becomes of a bad one; made once."""

    def make(making: Path) -> None:
        generate(making, asked.subjects, SEED)
        found = (file for file in sorted(making.rglob(asked.broken)) if file.is_file())
        whole = next(file for file in found if file.stat().st_size > 20_000)
        broken = making / "broken" / whole.name
        broken.parent.mkdir()
        broken.write_bytes(whole.read_bytes()[:10_000])

    return _made_once(folder, make)


def _on_unseen(generate: Generate, model: str, pattern: str, folder: Path) -> list[str]:
    """What the model says of a file of an archive that it has not seen; beside that archive."""
    from pipelines.predict import predict
    from pipelines.registry import resolve

    archive = _made_once(folder, lambda making: generate(making, UNSEEN_SUBJECTS, UNSEEN_SEED))
    home = folder.parents[1]
    [output] = predict(
        resolve(home, model), sorted(archive.rglob(pattern))[:1], folder.with_name(f"{folder.name}-seen"), home
    )
    files: list[str] = output["files"]
    return files


def _made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    if not folder.exists():
        making = folder.with_name(folder.name + ".part")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        make(making)
        making.rename(folder)
    return folder
