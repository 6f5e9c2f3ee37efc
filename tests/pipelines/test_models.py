"""Weights that move: to another number of channels, to another size of crops, and not to data prepared otherwise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from domains.domain import find_recipe
from domains.errors import ContractMismatch, RecipeError, UsageError
from domains.manifest import Contract
from domains.recipe import Recipe
from pipelines.finetune import finetune
from pipelines.models import Loaded, new_model, predictor, refuse_unfit_encoder, start_from
from pipelines.pretrain import pretrain
from ssl_models import disturb

PLANS: dict[str, dict[str, Any]] = {
    "resunet": {"crop_shape": (32, 32), "pooling": ((1, 1), (2, 2), (2, 2)), "patch_shape": (8, 8)},
    "slow": {
        "crop_shape": (4, 16, 16), "pooling": ((1, 1, 1), (1, 2, 2), (2, 2, 2)), "patch_shape": (2, 8, 8),
        "time_axis": True,
    },
}  # fmt: skip
PLANS |= {"vit": PLANS["resunet"], "x3d": PLANS["slow"]}


def recipe_with(encoder: str) -> Recipe:
    return find_recipe("brain_tumor")[1].changed({"encoder": encoder})


def contract(encoder: str, in_channels: int, **changes: Any) -> Contract:
    """A plan whose channels are named, so that another number of them has other names too."""
    rules = {"channels": [f"c{i}" for i in range(in_channels)], "neighbours": in_channels // 2, "spacing_mm": [1, 1]}
    rules |= changes.pop("rules", {})
    values = {"domain": "medical", "version": 1, "num_classes": 2, **PLANS[encoder], **changes}
    return Contract(in_channels=in_channels, rules=rules, **values)


def pretrained(encoder: str, of: Contract, folder: Path) -> Loaded:
    """An encoder folder as read, with weights that no seed of a recipe gives."""
    recipe = recipe_with(encoder)
    network = new_model(recipe, of).encoder
    generator = torch.Generator().manual_seed(5)
    tensors = {f"encoder.{n}": t + 0.02 * torch.randn(t.shape, generator=generator) for n, t in
               network.state_dict().items()}  # fmt: skip
    domain, _ = find_recipe("brain_tumor")
    return Loaded(folder, tensors, {"kind": "encoder"}, domain, recipe, of)


def features(network: Any, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(network.eval()(x))


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("encoder", PLANS)
def test_start_from__another_number_of_channels__one_image_in_all_of_them_gives_the_same(
    encoder: str, before: int, after: int, tmp_path: Path
) -> None:
    start, of = pretrained(encoder, contract(encoder, before), tmp_path), contract(encoder, after)
    old = new_model(recipe_with(encoder), start.contract).encoder
    old.load_state_dict(start.part("encoder"))
    model = new_model(recipe_with(encoder), of)
    taken = start_from(model, start, recipe_with(encoder), of)
    assert taken["in_channels"] == [before, after] and taken["encoder"] == len(model.encoder.state_dict())
    reading = {n for n, t in model.encoder.state_dict().items() if t.shape != start.part("encoder")[n].shape}
    assert reading and set(taken["adapted"]) == reading
    x = torch.randn(2, 1, *of.crop_shape)
    seen, meant = (x.expand(-1, channels, *[-1] * len(of.crop_shape)) for channels in (after, before))
    for mine, wanted in zip(features(model.encoder, seen), features(old, meant), strict=True):
        torch.testing.assert_close(mine, wanted, atol=3e-4, rtol=2e-3)


def test_start_from__as_many_channels__weights_as_they_are(tmp_path: Path) -> None:
    of = contract("resunet", 3)
    start, model = pretrained("resunet", of, tmp_path), new_model(recipe_with("resunet"), of)
    taken = start_from(model, start, recipe_with("resunet"), of)
    assert taken["adapted"] == [] and taken["in_channels"] == [3, 3]
    assert all(torch.equal(t, start.part("encoder")[n]) for n, t in model.encoder.state_dict().items())


def test_start_from__only_the_rules_of_channels_may_differ_and_only_with_their_number(tmp_path: Path) -> None:
    recipe, start = recipe_with("resunet"), pretrained("resunet", contract("resunet", 3), tmp_path)
    renamed = contract("resunet", 3, rules={"channels": ["t1", "t2", "flair"]})
    with pytest.raises(ContractMismatch, match=r"channels: the data has .*'flair'.*the encoder has .*'c0'"):
        start_from(new_model(recipe, renamed), start, recipe, renamed)
    coarse = contract("resunet", 1, rules={"spacing_mm": [2, 2]})
    with pytest.raises(ContractMismatch, match="spacing_mm") as refused:
        start_from(new_model(recipe, coarse), start, recipe, coarse)
    assert "channels" not in str(refused.value) and "neighbours" not in str(refused.value)


@pytest.mark.parametrize("encoder", PLANS)
def test_start_from__another_size_of_crops__positions_are_those_of_the_grid(encoder: str, tmp_path: Path) -> None:
    """No weight depends on the crop's size: an encoder loaded for a larger crop is the one it was trained as."""
    start = pretrained(encoder, contract(encoder, 1), tmp_path)
    larger = tuple(2 * n for n in start.contract.crop_shape)
    of = contract(encoder, 1, crop_shape=larger)
    old, model = new_model(recipe_with(encoder), start.contract).encoder, new_model(recipe_with(encoder), of)
    old.load_state_dict(start.part("encoder"))
    start_from(model, start, recipe_with(encoder), of)
    for size in (start.contract.crop_shape, larger):
        x = torch.randn(1, 1, *size)
        for mine, wanted in zip(features(model.encoder, x), features(old, x), strict=True):
            assert torch.equal(mine, wanted)
    assert features(model.encoder, torch.randn(1, 1, *larger))[0].shape[2:] == larger


def test_start_from__another_plan_of_stages__refused_naming_both(tmp_path: Path) -> None:
    recipe, start = recipe_with("resunet"), pretrained("resunet", contract("resunet", 1), tmp_path)
    deeper = contract("resunet", 1, pooling=((1, 1), (2, 2), (2, 2), (2, 2)))
    with pytest.raises(UsageError, match=r"does not fit the data in stages\.3\..*built for 1 channels, pooling"):
        start_from(new_model(recipe, deeper), start, recipe, deeper)


@pytest.mark.parametrize("encoder", ["slow", "x3d"])
def test_refuse_unfit_encoder__clips_wanted_volumes_given__before_any_work(encoder: str, tmp_path: Path) -> None:
    recipe = recipe_with(encoder)
    for work in (
        lambda: refuse_unfit_encoder(recipe), lambda: pretrain(recipe, tmp_path),
        lambda: finetune(recipe, tmp_path, encoder=None),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=rf"the encoder {encoder} needs clips .* fit: resunet, vit") as refused:
            work()
        assert refused.value.exit_code == 2
    assert not list(tmp_path.iterdir())
    volume = contract("slow", 1, time_axis=False)
    with pytest.raises(RecipeError, match="needs clips"):
        new_model(recipe, volume)


@pytest.mark.parametrize("encoder", ["resunet", "slow"])
def test_predictor__disturbance__the_network_sees_disturbed_crops(encoder: str) -> None:
    of, recipe = contract(encoder, 3), recipe_with(encoder)
    x = torch.randn(1, 3, *of.crop_shape, generator=torch.Generator().manual_seed(2))
    seen = {Path("plain"): x, Path("blurred"): disturb.blur(x, of.time_axis)}
    head: Any = SimpleNamespace(predict=lambda network, entry, contract: network(seen[entry]))
    domain: Any = SimpleNamespace(heads={recipe.head: head})
    loaded = Loaded(Path(), dict(new_model(recipe, of).state_dict()), {"kind": "model"}, domain, recipe, of)
    expected, plain = predictor(loaded)(Path("blurred")), predictor(loaded)(Path("plain"))
    found = predictor(loaded, "blur")(Path("plain"))
    assert torch.equal(found, expected) and not torch.equal(found, plain)
