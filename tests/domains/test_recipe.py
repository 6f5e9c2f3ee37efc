"""Recipes are frozen, refuse unknown keys with a suggestion, and survive YAML."""

from __future__ import annotations

import pytest
import yaml

from domains.errors import RecipeError
from domains.recipe import Finetune, Frozen, Pretrain, Recipe


class Data(Frozen):
    channels: tuple[str, ...] = ("flair",)


class Toy(Recipe):
    data: Data


LEARNS = ("full", "frozen", "probe")
TOY = Toy(
    name="toy", domain="toy", head="toy", data=Data(),
    pretrain=Pretrain(steps=10, batch_size=2, learning_rate=1e-3),
    finetune=Finetune(steps=10, batch_size=2, learning_rate=1e-3),
)  # fmt: skip


def test_changed__typed_and_nested() -> None:
    recipe = TOY.changed({"pretrain.steps": "25", "objective": "mae", "data.channels": "[t1, flair]"})
    assert recipe.pretrain.steps == 25
    assert recipe.data.channels == ("t1", "flair")
    assert recipe.digest() != TOY.digest()
    assert recipe.digest("finetune") == TOY.digest("finetune")


@pytest.mark.parametrize(
    ("key", "near"), [("pretrain.step", "pretrain.steps"), ("objectiv", "objective"), ("data.chanels", "data.channels")]
)
def test_changed__unknown_key__names_the_near_one(key: str, near: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown recipe key '{key}'; did you mean '{near}'"):
        TOY.changed({key: "1"})


def test_changed__wrong_value__says_which() -> None:
    with pytest.raises(RecipeError, match=r"pretrain.steps.*greater than 0.*-3"):
        TOY.changed({"pretrain.steps": "-3"})


def test_to_yaml__round_trip() -> None:
    assert Toy.checked(yaml.safe_load(TOY.to_yaml())) == TOY


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1", "a/b", "1/1"])
def test_fold__not_a_part_of_a_whole__refused(fold: str) -> None:
    with pytest.raises(RecipeError, match="fold"):
        TOY.changed({"fold": f"'{fold}'"})


def test_finetune__what_learns_is_one_key_and_older_recipes_and_store_keys_hold() -> None:
    full, frozen, probe = (Finetune(steps=9, batch_size=2, learning_rate=0.1, encoder=what) for what in LEARNS)
    older = {**full.model_dump(mode="json", exclude={"encoder"}), "frozen_encoder": True}
    assert Finetune.model_validate(older) == frozen
    assert frozen.decisive() == {key: value for key, value in older.items() if key != "checkpoint_every"}
    assert full.decisive() == frozen.decisive() | {"frozen_encoder": False}
    assert probe.decisive() == frozen.decisive() | {"probe": True}
    with pytest.raises(RecipeError, match=r"unknown recipe key 'finetune.frozen_encoder'"):
        TOY.changed({"finetune.frozen_encoder": "true"})
    with pytest.raises(RecipeError, match=r"finetune.encoder.*'full', 'frozen' or 'probe'.*'half'"):
        TOY.changed({"finetune.encoder": "half"})
