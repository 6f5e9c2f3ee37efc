"""Networks from recipes and folders: encoder + segmentation decoder, built, loaded and described in one way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domains.domain import Domain, load, recipe_from
from domains.errors import UsageError
from domains.head import Prediction
from domains.manifest import Contract
from domains.recipe import Recipe
from pipelines.checkpoint import read_model
from pipelines.runtime import inference
from ssl_models import encoders


class DenseModel(nn.Module):
    """An encoder and a head's decoder: crops (B, C, *S) -> its logits, (B, K, *S) where they are dense."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


@dataclass(frozen=True)
class Loaded:
    """A model folder as read: tensors, and what it says about itself."""

    folder: Path
    tensors: dict[str, Tensor]
    info: dict[str, Any]
    domain: Domain
    recipe: Recipe
    contract: Contract

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix`, without it."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(prefix + ".")}


def open_model(folder: Path) -> Loaded:
    """Reads an encoder or model folder.

    Raises:
        UnsafeCheckpoint: not a selfsight folder, or one that carries a pickle.
    """
    tensors, info = read_model(folder)
    recipe_values = info["recipe"]
    domain, recipe = recipe_from(recipe_values)
    return Loaded(Path(folder), tensors, info, domain, recipe, Contract.model_validate(info["contract"]))


def new_encoder(recipe: Recipe, contract: Contract) -> Any:
    """The recipe's encoder with fresh weights."""
    return encoders.build(
        recipe.encoder, size=recipe.size, in_channels=contract.in_channels, geometry=contract.geometry
    )


def new_model(recipe: Recipe, contract: Contract) -> DenseModel:
    """The recipe's model with fresh weights from `recipe.seed`."""
    torch.manual_seed(recipe.seed)
    encoder = new_encoder(recipe, contract)
    head = load(recipe.domain).heads[recipe.head]
    return DenseModel(encoder, head.decoder(encoder, contract.num_classes))


def load_model(loaded: Loaded) -> DenseModel:
    """The trained network of a model folder, in evaluation mode.

    Raises:
        UsageError: the folder holds an encoder, not a model.
    """
    if loaded.info["kind"] != "model":
        raise UsageError(f"{loaded.folder} holds an encoder; run `selfsight finetune` to make a model of it")
    model = new_model(loaded.recipe, loaded.contract)
    model.load_state_dict(loaded.tensors)
    return model.eval()


def predictor(loaded: Loaded) -> Callable[[Path], Prediction]:
    """Subject entry -> what the model predicts for it, at the model's precision; the network is loaded once."""
    network, head = load_model(loaded), loaded.domain.heads[loaded.recipe.head]

    def predict(entry: Path) -> Prediction:
        with inference(loaded.recipe.precision):
            return head.predict(network, entry, loaded.contract)

    return predict


def start_from(model: DenseModel, start: Loaded, recipe: Recipe, contract: Contract) -> dict[str, Any]:
    """Puts a pretrained encoder, and its decoder where the shapes agree, into `model`; says what was taken.

    Raises:
        ContractMismatch: the encoder was pretrained on data prepared in another way.
        UsageError: it is another kind or size of network.
    """
    contract.check(start.contract, mine="the data", theirs="the encoder")
    mine, theirs = (recipe.encoder, recipe.size), (start.recipe.encoder, start.recipe.size)
    if mine != theirs:
        raise UsageError(f"the recipe wants a {' '.join(mine)} encoder, {start.folder} holds a {' '.join(theirs)}")
    model.encoder.load_state_dict(start.part("encoder"))
    offered, wanted = start.part("decoder"), model.decoder.state_dict()
    fits = bool(offered) and {k: v.shape for k, v in offered.items()} == {k: v.shape for k, v in wanted.items()}
    if fits:
        model.decoder.load_state_dict(offered)
    return {"encoder": len(start.part("encoder")), "decoder_kept": fits}
