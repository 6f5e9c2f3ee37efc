"""Options that mean the same on every command, and the recipe that they add up to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from domains.errors import UsageError

if TYPE_CHECKING:
    from domains.recipe import Recipe

Home = Annotated[Path | None, typer.Option("--home", metavar="DIR", help="Where everything is kept. Default: SELFSIGHT_HOME, else the nearest .selfsight/ upward.", show_default=False)]  # fmt: skip  # noqa: E501
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe key, e.g. pretrain.steps=100. Repeatable.", show_default=False)]  # fmt: skip  # noqa: E501
RecipeFile = Annotated[Path | None, typer.Option("--recipe-file", metavar="YAML", help="Recipe keys from a file, as `selfsight recipes NAME` prints them.", show_default=False)]  # fmt: skip  # noqa: E501
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and do nothing.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Training length in passes over the subjects, instead of steps.", show_default=False)]  # fmt: skip  # noqa: E501
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe; `selfsight recipes` lists them.")]


def recipe_of(name: str, changes: Sequence[str] | None = None, file: Path | None = None) -> Recipe:
    """The named recipe with a file's keys and then `--set` changes applied.

    Raises:
        UsageError, RecipeError: an unknown name, key or value; the text names the nearest known one.
    """
    from domains.domain import find_recipe

    _, recipe = find_recipe(name)
    if file is not None:
        recipe = type(recipe).checked(_merged(recipe.model_dump(mode="json"), _read_yaml(file)))
    pairs = {}
    for change in changes or ():
        key, equals, value = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change}: write it as KEY=VALUE")
        pairs[key.strip()] = value
    return recipe.changed(pairs)


def with_epochs(recipe: Recipe, verb: str, epochs: int | None, subjects: int) -> Recipe:
    """The recipe with `epochs` passes over `subjects` written as steps of `verb` (pretrain or finetune)."""
    if epochs is None:
        return recipe
    batch_size: int = getattr(recipe, verb).batch_size
    return recipe.changed({f"{verb}.steps": str(max(1, math.ceil(epochs * subjects / batch_size)))})


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(file.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no recipe keys")
    return values


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, key by key; a whole recipe replaces every key."""
    both = {key: _merged(base[key], value) for key, value in over.items()
            if isinstance(value, dict) and isinstance(base.get(key), dict)}  # fmt: skip
    return base | over | both
