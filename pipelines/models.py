"""Networks from recipes and folders: encoder + segmentation decoder, built, loaded and described in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from domains.domain import Domain, load, recipe_from
from domains.errors import RecipeError, UsageError
from domains.head import Evidence, Prediction, linear_decoder
from domains.manifest import Contract
from domains.recipe import Recipe
from pipelines.checkpoint import read_model
from pipelines.runtime import inference
from ssl_models import encoders
from ssl_models.disturb import Disturbed


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
    """The recipe's encoder with fresh weights.

    Raises:
        RecipeError: it is not made for such crops.
    """
    try:
        return encoders.build(
            recipe.encoder, size=recipe.size, in_channels=contract.in_channels, geometry=contract.geometry
        )
    except ValueError as error:
        raise RecipeError(str(error)) from None


def refuse_unfit_encoder(recipe: Recipe) -> None:
    """Checks, before any work, that the recipe's encoder is made for its data.

    Raises:
        RecipeError: it is not; the text names the encoders that are.
    """
    try:
        encoders.refuse_unfit(recipe.encoder, time=load(recipe.domain).has_time(recipe))
    except ValueError as error:
        raise RecipeError(str(error)) from None


def new_model(recipe: Recipe, contract: Contract) -> DenseModel:
    """The recipe's model with fresh weights from `recipe.seed`."""
    torch.manual_seed(recipe.seed)
    encoder = new_encoder(recipe, contract)
    head = load(recipe.domain).heads[recipe.head]
    decoder = linear_decoder if recipe.finetune.encoder == "probe" and head.dense else head.decoder
    return DenseModel(encoder, decoder(encoder, contract.num_classes))


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


@dataclass(frozen=True)
class Predictor:
    """A loaded network at work, at the model's precision."""

    network: nn.Module
    loaded: Loaded

    def __call__(self, entry: Path) -> Prediction:
        """What the model predicts for a subject entry."""
        with inference(self.loaded.recipe.precision):
            return self.loaded.domain.heads[self.loaded.recipe.head].predict(self.network, entry, self.loaded.contract)

    def of_frames(self, frames: np.ndarray, native_shape: tuple[int, int]) -> Sequence[Any]:
        """What the model says of each of some frames (N, H, W, 3) uint8, in pixels of (H, W) `native_shape`."""
        of_frames = self.loaded.domain.heads[self.loaded.recipe.head].of_frames
        if of_frames is None:
            raise UsageError(f"the head {self.loaded.recipe.head} does not take single frames of a recording")
        with inference(self.loaded.recipe.precision):
            return of_frames(self.network, frames, self.loaded.contract, native_shape)

    def evidence(self, entry: Path) -> Evidence | None:
        """Where in a subject entry that comes from; None where the head's predictions show it themselves."""
        evidence = self.loaded.domain.heads[self.loaded.recipe.head].evidence
        if evidence is None:
            return None
        with inference(self.loaded.recipe.precision):
            return evidence(self.network, entry, self.loaded.contract)


def predictor(loaded: Loaded, disturbance: str = "") -> Predictor:
    """Subject entry -> what the model predicts for it; the network is loaded once.

    With a disturbance of `disturb.NAMES` it sees the subject disturbed, and is asked for no evidence.
    """
    network: nn.Module = load_model(loaded)
    if disturbance:
        network = Disturbed(network, disturbance, time_axis=loaded.contract.time_axis).eval()
    return Predictor(network, loaded)


def start_from(model: DenseModel, start: Loaded, recipe: Recipe, contract: Contract) -> dict[str, Any]:
    """Puts a pretrained encoder, and its decoder where the shapes agree, into `model`; says what was taken.

    Where the data has another number of input channels, the weights that read them are converted by `to_channels`, and
    the rules that name the channels may differ (see `Domain.channel_rules`). Weights move between sizes of crops as
    they are: convolutions have no size, and a transformer's positions are computed for the grid at hand.

    Returns:
        "encoder" (number of tensors), "decoder_kept", "in_channels" [encoder's, data's], "adapted" (names converted).

    Raises:
        ContractMismatch: the encoder was pretrained on data prepared in another way.
        UsageError: it is another kind or size of network, or was built for another plan of strides or patches.
    """
    given, channels = start.contract.in_channels, contract.in_channels
    may_differ = ("in_channels", *start.domain.channel_rules) if given != channels else ()
    contract.check(start.contract, mine="the data", theirs="the encoder", may_differ=may_differ)
    mine, theirs = (recipe.encoder, recipe.size), (start.recipe.encoder, start.recipe.size)
    if mine != theirs:
        raise UsageError(f"the recipe wants a {' '.join(mine)} encoder, {start.folder} holds a {' '.join(theirs)}")
    weights, adapted = _encoder_weights(model, start, contract)
    model.encoder.load_state_dict(weights)
    offered, wanted = start.part("decoder"), model.decoder.state_dict()
    fits = bool(offered) and {k: v.shape for k, v in offered.items()} == {k: v.shape for k, v in wanted.items()}
    if fits:
        model.decoder.load_state_dict(offered)
    return {"encoder": len(weights), "decoder_kept": fits, "in_channels": [given, channels], "adapted": adapted}


def _encoder_weights(model: DenseModel, start: Loaded, contract: Contract) -> tuple[dict[str, Tensor], list[str]]:
    """The encoder's tensors in the model's shapes, and the names of those that another number of channels changed."""
    offered, wanted = start.part("encoder"), model.encoder.state_dict()
    given, channels = start.contract.in_channels, contract.in_channels
    differing = [name for name in wanted if name in offered and offered[name].shape != wanted[name].shape]
    adapted = [name for name in differing if differs_in_channels(offered[name], wanted[name], given, channels)]
    if unfit := sorted((offered.keys() ^ wanted.keys()) | set(differing).difference(adapted)):
        mine, theirs = contract.geometry, start.contract.geometry
        raise UsageError(
            f"the encoder of {start.folder} does not fit the data in {', '.join(unfit[:3])}: it was built for {given} "
            f"channels, pooling {theirs.pooling} and patches {theirs.patch_shape}, the data has {channels} channels, "
            f"pooling {mine.pooling} and patches {mine.patch_shape}"
        )
    converted = {name: to_channels(offered[name], wanted[name].shape, given, channels) for name in adapted}
    return offered | converted, adapted


def differs_in_channels(given: Tensor, want: Tensor, given_channels: int, channels: int) -> bool:
    """Whether one tensor is the other but for the number of input channels it reads, so that `to_channels` applies."""
    same_ends = given.ndim == want.ndim > 1 and given.shape[0] == want.shape[0] and given.shape[2:] == want.shape[2:]
    same_taps = given_channels > 0 and given.numel() * channels == want.numel() * given_channels
    return given.is_floating_point() and same_ends and same_taps


def to_channels(weight: Tensor, shape: torch.Size, given_channels: int, channels: int) -> Tensor:
    """The weight (out, c, ...) of a layer that reads c input channels, for C of them: each gets the sum over c, / C.

    w'[:, j] = sum_i w[:, i] / C for every j: an input that is the same in all channels gives what it gave before, at
    every tap of the kernel (and at padded borders). What told the channels apart is lost.

    Args:
        weight: (out, c, *kernel), or (out, c * patch) with the channels outermost.
        shape: of the result.
        given_channels: c.
        channels: C.
    """
    taps = weight.reshape(weight.shape[0], given_channels, -1)
    return (taps.sum(1, keepdim=True) / channels).expand(-1, channels, -1).reshape(shape).contiguous()
