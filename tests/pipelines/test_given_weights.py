"""Given weights: what fits is taken, what does not is listed; code, other networks and empty licences are refused."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import ViT
from safetensors.torch import save_file
from torch import Tensor

from domains.domain import find_recipe
from domains.errors import UnsafeCheckpoint, UsageError
from domains.manifest import Contract, Manifest
from domains.recipe import Recipe
from pipelines.finetune import finetune
from pipelines.given_weights import describe, fit, given_encoder, in_our_words, read_given
from pipelines.ingest import ingest
from pipelines.models import new_encoder, new_model, open_model, to_channels
from ssl_models import encoders
from ssl_models.protocols import Geometry

TERMS = {"licence": "CC BY 4.0", "source": "a hospital's archive, 2D"}


@pytest.fixture
def recipe() -> Recipe:
    return find_recipe("brain_tumor")[1]


def contract(in_channels: int = 3, axes: int = 2) -> Contract:
    return Contract(
        domain="medical", version=1, in_channels=in_channels, num_classes=2, crop_shape=(32,) * axes,
        pooling=((1,) * axes, (2,) * axes, (2,) * axes), patch_shape=(8,) * axes, rules={"axes": axes},
    )  # fmt: skip


def manifest(folder: Path, of: Contract) -> Path:
    """A manifest without a subject: what an encoder needs to know about the data."""
    file = folder / "manifest.json"
    made = Manifest(recipe="brain_tumor", contract=of, sources={}, records=(), subjects=())
    file.write_text(made.model_dump_json())
    return file


def trained(recipe: Recipe, of: Contract) -> Any:
    """An encoder with weights that no seed of a recipe gives."""
    torch.manual_seed(1234)
    encoder = new_encoder(recipe, of)
    for weights in encoder.parameters():
        weights.data.add_(0.02 * torch.randn_like(weights))
    return encoder.eval()


def plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def features(folder: Path, x: Tensor) -> list[Tensor]:
    loaded = open_model(folder)
    encoder = new_encoder(loaded.recipe, loaded.contract).eval()
    encoder.load_state_dict(loaded.part("encoder"))
    with torch.no_grad():
        return encoder(x)


def given_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())["lineage"]["given"]


class Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("name", ["resunet", "vit"])
@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_given_encoder__round_trip_gives_identical_features(
    name: str, kind: str, recipe: Recipe, tmp_path: Path
) -> None:
    recipe, of = recipe.changed({"encoder": name}), contract()
    encoder, file = trained(recipe, of), tmp_path / f"weights.{kind}"
    save_file(plain(encoder.state_dict()), file) if kind == "safetensors" else torch.save(encoder.state_dict(), file)
    folder = given_encoder(file, recipe, tmp_path / "home", data=manifest(tmp_path, of), **TERMS)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(features(folder, x), encoder(x), strict=True))
    given = given_of(folder)
    assert set(given["matched"]) == set(encoder.state_dict())
    assert [given[key] for key in ("adapted", "missing", "wrong_shape", "unexpected")] == [[], [], [], []]
    assert (given["share"], given["licence"], given["source"]) == (1.0, TERMS["licence"], TERMS["source"])
    assert given_encoder(file, recipe, tmp_path / "home", data=tmp_path / "manifest.json", **TERMS) == folder


def test_given_encoder__folder_is_an_encoder_with_licence_and_without_groups(recipe: Recipe, tmp_path: Path) -> None:
    of, file = contract(), tmp_path / "weights.pt"
    torch.save(trained(recipe, of).state_dict(), file)
    folder = given_encoder(file, recipe, tmp_path / "home", data=manifest(tmp_path, of), **TERMS)
    info = open_model(folder).info
    assert (folder.parent.name, info["kind"], info["lineage"]["pretrain_groups"]) == ("given", "encoder", [])
    assert info["lineage"]["sources"] == {"given weights": "CC BY 4.0; a hospital's archive, 2D"}
    text = "\n".join(describe(folder))
    assert all(word in text for word in TERMS.values())
    other = given_encoder(file, recipe, tmp_path / "home", data=tmp_path / "manifest.json", licence="MIT", source="x")
    assert other != folder and given_of(other)["licence"] == "MIT"


def test_given_encoder__nested_and_prefixed_names__teacher_before_student(recipe: Recipe, tmp_path: Path) -> None:
    of = contract()
    encoder = trained(recipe, of)
    mine = encoder.state_dict()
    dropped = "stages.1.conv2.conv.weight"
    saved = {
        "epoch": 7,
        "student": {f"module.backbone.{name}": torch.zeros_like(tensor) for name, tensor in mine.items()},
        "teacher": {f"module.backbone.{name}": tensor.double() for name, tensor in mine.items() if name != dropped},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
    }
    saved["student"].pop("module.backbone." + dropped)
    saved["teacher"]["head.weight"] = torch.zeros(5, 5)
    torch.save(saved, tmp_path / "checkpoint.pth")
    folder = given_encoder(tmp_path / "checkpoint.pth", recipe, tmp_path / "home", data=manifest(tmp_path, of), **TERMS)
    given, tensors = given_of(folder), open_model(folder).part("encoder")
    assert given["prefix"] == "teacher.module.backbone."
    assert given["missing"] == [dropped]
    assert {"teacher.head.weight", "optimizer.state.0.exp_avg"} < set(given["unexpected"])
    assert len(given["unexpected"]) == 2 + len(mine) - 1
    assert all(torch.equal(tensors[name], mine[name]) for name in mine if name != dropped)
    fresh = new_model(recipe, of).encoder.state_dict()[dropped]
    assert torch.equal(tensors[dropped], fresh), "what is missing starts as from scratch"
    assert f"  missing: {dropped}" in describe(folder)


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "backbone.", "model.", "network_weights.module.encoder."])
def test_fit__prefix_is_found(prefix: str, recipe: Recipe) -> None:
    encoder = trained(recipe, contract())
    found, values = fit({prefix + n: t for n, t in encoder.state_dict().items()}, encoder, set())
    assert (found.prefix, found.share, found.unexpected) == (prefix, 1.0, [])
    assert set(values) == set(encoder.state_dict())


@pytest.mark.parametrize("name", ["resunet", "vit"])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (4, 1), (3, 2)])
def test_given_encoder__other_number_of_channels__constant_input_gives_the_same(
    name: str, before: int, after: int, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = recipe.changed({"encoder": name})
    encoder, file = trained(recipe, contract(before)), tmp_path / "weights.safetensors"
    save_file(plain(encoder.state_dict()), file)
    folder = given_encoder(file, recipe, tmp_path / "home", data=manifest(tmp_path, contract(after)), **TERMS)
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        theirs = encoder(x.expand(-1, before, -1, -1))
    for mine, wanted in zip(features(folder, x.expand(-1, after, -1, -1)), theirs, strict=True):
        torch.testing.assert_close(mine, wanted, atol=2e-4, rtol=1e-3)
    given = given_of(folder)
    first = {"resunet": {"stages.0.conv1.conv.weight", "stages.0.conv3.conv.weight"},
             "vit": {"embed.weight", "stem.0.conv1.conv.weight"}}[name]  # fmt: skip
    assert first <= {line.split(":")[0] for line in given["adapted"]}
    assert len(given["adapted"]) + len(given["matched"]) == len(encoder.state_dict())


def test_to_channels__documented_formula() -> None:
    weight = torch.randn(5, 2, 3, 3)
    made = to_channels(weight, torch.Size((5, 3, 3, 3)), 2, 3)
    for j in range(3):
        torch.testing.assert_close(made[:, j], (weight[:, 0] + weight[:, 1]) / 3)


def test_given_encoder__patch_of_another_size_is_not_taken_for_channels(recipe: Recipe) -> None:
    """192 inputs of a linear layer are 3 channels of 8 x 8 as well as 12 of 4 x 4."""
    recipe = recipe.changed({"encoder": "vit"})
    given = trained(recipe, contract(12).model_copy(update={"patch_shape": (4, 4)})).state_dict()
    encoder = new_encoder(recipe, contract(1))
    found, _ = fit(given, encoder, {"embed.weight", "stem.0.conv1.conv.weight"})
    assert any(line.startswith("embed.weight: 192x192 in the file, 192x64") for line in found.wrong_shape)


def test_fit__monais_vision_transformer_gives_the_same_tokens() -> None:
    """Another library's names, and a convolution in place of the linear layer over patches."""
    theirs = ViT(
        2, (16, 16, 16), (4, 8, 8), hidden_size=192, mlp_dim=768, num_layers=6, num_heads=6, qkv_bias=True
    ).eval()  # fmt: skip
    ours = encoders.build("vit", size="tiny", in_channels=2, geometry=Geometry((16, 16, 16), (), (4, 8, 8))).eval()
    for weights in theirs.parameters():
        weights.data.add_(0.02 * torch.randn_like(weights))
    theirs.patch_embedding.position_embeddings.data = ours.positions((4, 2, 2))[None].clone()
    found, values = fit({f"vit.{n}": t for n, t in theirs.state_dict().items()}, ours, {"embed.weight"})
    assert found.share > 0.8 and found.wrong_shape == []
    assert all(name.startswith(("stem.", "up.")) for name in found.missing)
    assert "vit.patch_embedding.position_embeddings" in found.unexpected
    ours.load_state_dict(ours.state_dict() | values)
    x = torch.randn(2, 2, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours.tokens(x), theirs(x)[0], atol=1e-5, rtol=1e-4)


def test_in_our_words__only_transformers_are_renamed() -> None:
    assert in_our_words("module.blocks.11.attn.proj.bias") == "module.blocks.11.project.bias"
    assert in_our_words("blocks.0.norm2.weight") == "blocks.0.norm_mlp.weight"
    assert in_our_words("patch_embed.proj.weight") == "embed.weight"
    for same in ("stages.0.norm1.weight", "decoder_blocks.0.norm1.weight", "stem.0.norm1.bias", "blocks.0.qkv.weight"):
        assert in_our_words(same) == same


def test_given_encoder__decoder_is_kept_when_all_of_it_fits(recipe: Recipe, tmp_path: Path) -> None:
    of, file = contract(), tmp_path / "weights.safetensors"
    model = new_model(recipe.changed({"seed": "5"}), of)
    save_file(plain(model.state_dict()), file)
    folder = given_encoder(file, recipe, tmp_path / "home", data=manifest(tmp_path, of), **TERMS)
    kept = open_model(folder).part("decoder")
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.decoder.state_dict().items())
    assert given_of(folder)["unexpected"] == [] and len(given_of(folder)["decoder"]) == len(kept)
    part = {name: tensor for name, tensor in plain(model.state_dict()).items() if "logits" not in name}
    save_file(part, file)
    folder = given_encoder(file, recipe, tmp_path / "home", data=tmp_path / "manifest.json", **TERMS)
    assert open_model(folder).part("decoder") == {}
    assert set(given_of(folder)["unexpected"]) == {name for name in part if name.startswith("decoder.")}


def test_given_encoder__another_network__refused_naming_both_sides(recipe: Recipe, tmp_path: Path) -> None:
    of, file = contract(), tmp_path / "weights.pt"
    torch.save(trained(recipe.changed({"encoder": "vit"}), of).state_dict(), file)
    with pytest.raises(UsageError, match=r"(?s)only 0%.*embed\.weight.*stages\.0") as refused:
        given_encoder(file, recipe, tmp_path / "home", data=manifest(tmp_path, of), **TERMS)
    assert "more" in str(refused.value)
    torch.save(trained(recipe.changed({"size": "small"}), of).state_dict(), file)
    with pytest.raises(UsageError, match=r"16x3x3x3 in the encoder"):
        given_encoder(file, recipe, tmp_path / "home", data=tmp_path / "manifest.json", **TERMS)
    assert not list((tmp_path / "home" / "store").rglob("model.json"))


@pytest.mark.parametrize("name", ["resunet", "vit"])
def test_given_encoder__2d_weights_for_3d_data__refused(name: str, recipe: Recipe, tmp_path: Path) -> None:
    recipe, file = recipe.changed({"encoder": name}), tmp_path / "weights.pt"
    torch.save(trained(recipe, contract()).state_dict(), file)
    with pytest.raises(UsageError, match=r"weights are for 2 spatial axes .* the recipe's data has 3"):
        given_encoder(file, recipe, tmp_path / "home", data=manifest(tmp_path, contract(axes=3)), **TERMS)


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "weights.safetensors"])
def test_read_given__pickle_with_code__refused_and_not_run(name: str, tmp_path: Path) -> None:
    witness = tmp_path / "was-here"
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))):
        save({"state_dict": {"stages": torch.zeros(3)}, "extra": Evil(witness)}, tmp_path / name)
        with pytest.raises(UnsafeCheckpoint, match="is refused") as refused:
            read_given(tmp_path / name)
        assert "weights_only" not in str(refused.value)
    assert not witness.exists()


def test_read_given__what_needs_a_class_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
    with pytest.raises(UnsafeCheckpoint, match=r"argparse\.Namespace"):
        read_given(tmp_path / "a.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(UnsafeCheckpoint, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_given(tmp_path / "module.pt")


@pytest.mark.filterwarnings("ignore")
def test_read_given__damaged_and_foreign_files__refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(100)}, file)
    whole = file.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    script = (tmp_path / "script.pt").read_bytes()
    for content in (b"", b"hello, this is no checkpoint", whole[: len(whole) // 2], script):
        file.write_bytes(content)
        with pytest.raises(UnsafeCheckpoint, match="refused"):
            read_given(file)
    (tmp_path / "a.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    with pytest.raises(UnsafeCheckpoint, match="refused"):
        read_given(tmp_path / "a.safetensors")
    torch.save({"epoch": 3, "name": "x"}, file)
    with pytest.raises(UsageError, match="no named tensor"):
        read_given(file)


def test_given_encoder__without_terms_or_with_broken_numbers__refused(recipe: Recipe, tmp_path: Path) -> None:
    of, file = contract(), tmp_path / "weights.pt"
    tensors = trained(recipe, of).state_dict()
    tensors["stages.0.norm1.weight"] = tensors["stages.0.norm1.weight"] * float("nan")
    torch.save(tensors, file)
    data = manifest(tmp_path, of)
    with pytest.raises(UsageError, match="licence"):
        given_encoder(file, recipe, tmp_path, data=data, licence="  ", source="x")
    with pytest.raises(UsageError, match="source"):
        given_encoder(file, recipe, tmp_path, data=data, licence="MIT", source="")
    with pytest.raises(UsageError, match="no weights file"):
        given_encoder(tmp_path / "nothing.pt", recipe, tmp_path, data=data, **TERMS)
    with pytest.raises(UsageError, match=r"not finite, in stages\.0\.norm1\.weight"):
        given_encoder(file, recipe, tmp_path / "home", data=data, **TERMS)


def test_fit__integers_are_not_weights(recipe: Recipe) -> None:
    encoder = trained(recipe, contract())
    tensors = plain(encoder.state_dict())
    tensors["stages.0.norm1.weight"] = torch.ones(16, dtype=torch.int8)
    found, values = fit(tensors, encoder, set())
    assert found.wrong_shape == ["stages.0.norm1.weight: int8 16 in the file, 16 in the encoder"]
    assert "stages.0.norm1.weight" not in values


def test_given_encoder__weights_of_our_own_folder__refused(recipe: Recipe, tmp_path: Path) -> None:
    """Their lineage says which groups they have seen; through this door it would be empty."""
    of, home = contract(), tmp_path / "home"
    torch.save(trained(recipe, of).state_dict(), tmp_path / "weights.pt")
    folder = given_encoder(tmp_path / "weights.pt", recipe, home, data=manifest(tmp_path, of), **TERMS)
    elsewhere = tmp_path / "copy"
    elsewhere.mkdir()
    for name in ("weights.safetensors", "model.json"):
        (elsewhere / name).write_bytes((folder / name).read_bytes())
    for inside in (folder, elsewhere):
        with pytest.raises(UsageError, match="--encoder"):
            given_encoder(inside / "weights.safetensors", recipe, home, data=tmp_path / "manifest.json", **TERMS)


def test_finetune__starts_from_given_weights(quick: Recipe, archive: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ingest(archive, quick, home)
    dataset = json.loads(next((home / "datasets").glob("*.json")).read_text())
    of = Manifest.model_validate_json((home / "store/manifest" / dataset["manifest"] / "manifest.json").read_text())
    torch.save({"state_dict": trained(quick, of.contract).state_dict()}, tmp_path / "weights.pt")
    folder = given_encoder(tmp_path / "weights.pt", quick, home, **TERMS)
    model = open_model(finetune(quick, home, encoder=folder, label_budget=2).folder)
    assert model.info["start"]["encoder"] == len(open_model(folder).part("encoder"))
    assert model.info["lineage"]["encoder"] == folder.name
    assert model.info["lineage"]["encoder_sha256"] == open_model(folder).info["sha256"]
    name = "encoder.stages.1.conv2.conv.weight"
    given, fresh = open_model(folder).tensors[name], new_model(quick, of.contract).state_dict()[name]
    assert (model.tensors[name] - given).norm() < 0.5 * (model.tensors[name] - fresh).norm(), "4 steps lead not far"
