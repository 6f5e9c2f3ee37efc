"""given: encoder weights that a user brings, mapped by name and shape onto a recipe's encoder; nothing is silent."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domains.errors import UnsafeCheckpoint, UsageError
from domains.manifest import Contract
from domains.recipe import Recipe
from domains.store import Store
from pipelines.checkpoint import digest_of_file, read_weights, write_model
from pipelines.dataset import open_dataset
from pipelines.models import differs_in_channels, new_encoder, new_model, to_channels
from pipelines.runtime import versions

LEAST_SHARE = 0.5
FEW = 5
IN_A_BLOCK = {
    "norm1": "norm_attention", "attn.qkv": "qkv", "attn.proj": "project", "attn.out_proj": "project",
    "norm2": "norm_mlp", "mlp.fc1": "expand", "mlp.linear1": "expand", "mlp.fc2": "contract", "mlp.linear2": "contract",
}  # fmt: skip
"""Names in a transformer's block as timm (MAE, DINO) and MONAI write them -> as `ssl_models.encoders.vit` does."""


@dataclass
class Fit:
    """How the tensors of a file fit an encoder: every one of either side is in exactly one of the lists."""

    prefix: str
    """What stands before the encoder's names in the file."""
    matched: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    """They read the input, which has another number of channels here."""
    missing: list[str] = field(default_factory=list)
    """Not in the file: they start as in a training from scratch."""
    wrong_shape: list[str] = field(default_factory=list)
    """In the file, but not usable: they start as in a training from scratch."""
    unexpected: list[str] = field(default_factory=list)
    """In the file (its own names), but not in the encoder."""
    decoder: list[str] = field(default_factory=list)
    """Tensors of a segmentation decoder, taken whole or not at all."""
    share: float = 0.0
    """Of the encoder's weights, how many (by count of numbers) come from the file."""


def given_encoder(
    file: Path, recipe: Recipe, home: Path, *, licence: str, source: str, data: Path | None = None
) -> Path:
    """An encoder folder in the store (stage "given") with the weights in `file`; every verb takes it as an encoder.

    What the weights were trained on is not known here: `pretrain_groups` is empty, and no overlap with the subjects
    that are judged later can be found. The same holds for how their training data was prepared: the folder carries
    the contract of the recipe's data.

    Args:
        file: safetensors, or a torch file of tensors in dicts (nested at will) that loads without running code.
        recipe: whose encoder is filled; what the file does not have starts from `recipe.seed`.
        home: of the store; the recipe's data was ingested there.
        licence: of the weights, in words.
        source: where they come from, in words.
        data: a manifest to use instead of the newest.

    Raises:
        UnsafeCheckpoint: the file needs code to load, or is neither of the two formats.
        UsageError: licence or source is empty, or less than half of the encoder's weights are in the file.
    """
    file, licence, source, store = Path(file), licence.strip(), source.strip(), Store(Path(home))
    if not licence or not source:
        raise UsageError("given weights need their licence and their source in words; both are kept with the encoder")
    if not file.is_file():
        raise UsageError(f"there is no weights file {file}")
    digest = digest_of_file(file)
    _refuse_own(file, digest, store)
    contract = open_dataset(recipe, home, data)[0].contract
    decides = [digest, licence, source, recipe.digest("domain", "encoder", "size", "seed")]
    key = store.key("given", [*decides, contract.model_dump(mode="json")])
    about = {"sha256": digest, "licence": licence, "source": source}
    return store.build("given", key, lambda out: _given(file, recipe, contract, about, out))


def describe(folder: Path) -> list[str]:
    """Lines for a person on a folder that `given_encoder` wrote: licence, source, and what fitted."""
    given = json.loads((folder / "model.json").read_text())["lineage"]["given"]
    lines = [
        f"given weights: {given['share']:.0%} of the encoder; sha256 {given['sha256']}",
        f"  licence: {given['licence']}",
        f"  source: {given['source']}; what they were trained on is not known here",
        f"  matched: {len(given['matched'])} tensors" + (f" below {given['prefix']!r}" if given["prefix"] else ""),
    ]
    if given["decoder"]:
        lines.append(f"  decoder: {len(given['decoder'])} tensors, all of it")
    for kind in ("adapted", "missing", "wrong_shape", "unexpected"):
        if given[kind]:
            lines.append(f"  {kind.replace('_', ' ')}: {_few(given[kind])}")
    return [*lines, f"  all names: {folder / 'model.json'}"]


def read_given(file: Path) -> dict[str, Tensor]:
    """Dotted name -> tensor of everything in `file`, on the CPU; nothing in it is run.

    Raises:
        UnsafeCheckpoint: it needs code to load, or cannot be read as safetensors or as a torch file of tensors.
        UsageError: there is no tensor in it.
    """
    try:
        if file.suffix.lower() == ".safetensors":
            found: Any = read_weights(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except UnsafeCheckpoint:
        raise
    # What bytes that are no checkpoint raise in the unpickler is anything. torch's own text is not passed on: it
    # advises to load with weights_only=False, which runs the code.
    except Exception as error:
        named = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
        why = f"it needs {named[1]}, which is code" if named else f"not readable ({type(error).__name__})"
        raise UnsafeCheckpoint(
            f"{file} is refused: {why}. What can be read is safetensors, or a torch file that holds tensors in dicts; "
            "where you trust the file, convert it there with safetensors.torch.save_file"
        ) from error
    tensors = dict(_tensors(found))
    if not tensors:
        raise UsageError(f"{file} holds no named tensor: give the state dict of an encoder")
    return tensors


def fit(tensors: Mapping[str, Tensor], encoder: Any, reads_input: set[str]) -> tuple[Fit, dict[str, Tensor]]:
    """What of `tensors` the encoder can take, and those values under the encoder's names, in its shapes.

    Args:
        tensors: as `read_given` gives them.
        encoder: an `Encoder`.
        reads_input: names of its tensors whose shape follows from the number of input channels.

    Raises:
        UsageError: the file is for data with another number of spatial axes.
    """
    wanted: dict[str, Tensor] = encoder.state_dict()
    theirs: dict[str, str] = {}
    for name in tensors:
        theirs.setdefault(in_our_words(name), name)
    found = Fit(_prefix({ours: tensors[name] for ours, name in theirs.items()}, wanted))
    offered = {name: tensors[theirs[found.prefix + name]] for name in wanted if found.prefix + name in theirs}
    _refuse_other_axes(offered, wanted, encoder.spatial_axes)
    # Only a convolution says how many channels it reads; a linear layer over patches has channels and patch in one.
    counts = {tensor.shape[1] for name, tensor in offered.items() if name in reads_input and tensor.ndim > 2}
    given_channels, channels = counts.pop() if len(counts) == 1 else 0, encoder.in_channels
    values: dict[str, Tensor] = {}
    for name, want in wanted.items():
        if name not in offered:
            found.missing.append(name)
            continue
        given = offered[name]
        if name == "embed.weight" and tuple(given.shape[2:]) == getattr(encoder, "patch_shape", None):
            given = given.flatten(1)  # a convolution of stride = patch is this linear layer; channels are outermost
        if given.is_floating_point() and given.shape == want.shape:
            found.matched.append(name)
        elif name in reads_input and differs_in_channels(given, want, given_channels, channels):
            given = to_channels(given, want.shape, given_channels, channels)
            found.adapted.append(f"{name}: from {_shape(offered[name])} to {_shape(want)}")
        else:
            found.wrong_shape.append(f"{name}: {_shape(offered[name])} in the file, {_shape(want)} in the encoder")
            continue
        values[name] = given.to(want.dtype)
    used = {theirs[found.prefix + name] for name in offered}
    found.unexpected = [name for name in tensors if name not in used]
    found.share = sum(t.numel() for t in values.values()) / sum(t.numel() for t in wanted.values())
    return found, values


def in_our_words(name: str) -> str:
    """A tensor's name with a foreign transformer's words replaced; any other name as it is."""
    name = re.sub(r"\b(patch_embed\.proj|patch_embedding\.patch_embeddings)\.(weight|bias)$", r"embed.\2", name)
    in_block = re.search(r"\bblocks\.\d+\.(.+)\.(?:weight|bias)$", name)
    if in_block is None:
        return name
    return name[: in_block.start(1)] + IN_A_BLOCK.get(in_block[1], in_block[1]) + name[in_block.end(1) :]


def _given(file: Path, recipe: Recipe, contract: Contract, about: dict[str, str], out: Path) -> dict[str, Any]:
    tensors = read_given(file)
    model = new_model(recipe, contract)
    found, values = fit(tensors, model.encoder, _reads_input(recipe, contract, model.encoder))
    if found.share < LEAST_SHARE:
        raise UsageError(
            f"{file} does not fit the {recipe.size} {recipe.encoder} encoder of {recipe.name}: only {found.share:.0%} "
            f"of its weights are there.\n  wrong shape: {_few(found.wrong_shape)}\n"
            f"  in the file only: {_few(found.unexpected)}\n  in the encoder only: {_few(found.missing)}"
        )
    if broken := [name for name, tensor in values.items() if not tensor.isfinite().all()]:
        raise UsageError(f"{file} holds numbers that are not finite, in {_few(broken)}")
    encoder = model.encoder.state_dict() | values
    decoder = _decoder(tensors, model.decoder)
    found.decoder = sorted(decoder)
    found.unexpected = [name for name in found.unexpected if name not in decoder.values()]
    lineage = {
        "pretrain_groups": [],
        "sources": {"given weights": f"{about['licence']}; {about['source']}"},
        "given": about | asdict(found),
    }
    info = {
        "kind": "encoder", "recipe": recipe.model_dump(mode="json"), "contract": contract.model_dump(mode="json"),
        "lineage": lineage, "outcome": {"steps": 0, "seconds": 0.0}, "health": {}, "versions": versions(),
    }  # fmt: skip
    named = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    named |= {f"decoder.{name}": tensors[theirs].float() for name, theirs in decoder.items()}
    write_model(out, named, info)
    return {"share": found.share}


def _refuse_own(file: Path, digest: str, store: Store) -> None:
    """Weights of a selfsight folder have a lineage; on this way it would be lost, and with it the check for leaks."""
    beside = file.parent / "model.json"
    ours = beside.is_file() and json.loads(beside.read_text()).get("sha256") == digest
    if ours or store.home.resolve() in file.resolve().parents:
        raise UsageError(f"{file} was made by selfsight: give its folder with --encoder, so that its lineage is kept")


def _reads_input(recipe: Recipe, contract: Contract, encoder: nn.Module) -> set[str]:
    """Names of the encoder's tensors that would have another shape with one more input channel."""
    with torch.device("meta"):
        other = new_encoder(recipe, contract.model_copy(update={"in_channels": contract.in_channels + 1})).state_dict()
    return {n for n, tensor in encoder.state_dict().items() if n not in other or other[n].shape != tensor.shape}


def _refuse_other_axes(offered: Mapping[str, Tensor], wanted: Mapping[str, Tensor], axes: int) -> None:
    for name, tensor in offered.items():
        kernel_axes = tensor.ndim - 2
        if kernel_axes > 0 and kernel_axes != axes and (wanted[name].ndim > 2 or name == "embed.weight"):
            raise UsageError(
                f"the weights are for {kernel_axes} spatial axes ({name} is {_shape(tensor)}), the recipe's data has "
                f"{axes}: weights are not inflated or flattened. Take weights for {axes} axes, or cut the data in "
                f"{kernel_axes}D"
            )


def _prefix(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What stands before the encoder's names where most of its weights are; of equals the teacher (averaged) ones."""
    scores: Counter[str] = Counter()
    for name, tensor in tensors.items():
        parts = name.split(".")
        for cut in range(len(parts)):
            if (want := wanted.get(".".join(parts[cut:]))) is not None:
                fits = tensor.shape == want.shape
                scores["".join(f"{part}." for part in parts[:cut])] += 1 + (tensor.numel() if fits else 0)
    averaged = re.compile(r"\b(teacher|\w*ema)\.")
    return max(scores, key=lambda prefix: (scores[prefix], averaged.search(prefix) is not None), default="")


def _decoder(tensors: Mapping[str, Tensor], decoder: nn.Module) -> dict[str, str]:
    """The decoder's names -> the file's, if the file has a whole one of the same shapes; else empty."""
    wanted: dict[str, Tensor] = decoder.state_dict()
    prefix = _prefix(tensors, wanted)
    fits = all(prefix + n in tensors and tensors[prefix + n].shape == want.shape for n, want in wanted.items())
    return {name: prefix + name for name in wanted} if fits else {}


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors at any depth of dicts, named by their way down: the key of a wrapper becomes part of the prefix."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}.{key}" if name else str(key))


def _shape(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f"{str(tensor.dtype).removeprefix('torch.')} "
    return kind + "x".join(map(str, tensor.shape))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return (", ".join(names[:FEW]) or "none") + more
