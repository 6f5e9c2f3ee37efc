"""export: a model folder -> ONNX that gives the same numbers, plain safetensors and JSON, and a model card."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from domains.errors import SelfsightError, UsageError
from domains.manifest import read_manifest
from domains.store import Store
from pipelines.checkpoint import digest_of_file
from pipelines.evaluate import evaluations_of
from pipelines.model_card import model_card
from pipelines.models import Loaded, load_model, new_encoder, open_model

LARGEST_DIFFERENCE = 1e-4
"""Between ONNX Runtime's numbers and torch's, as a share of the largest number; float32 on both sides."""
BATCHES = (1, 3)
"""Sizes that the exported graph is tried with; it was made from 2."""


def export(model: Path, out: Path, home: Path) -> dict[str, Any]:
    """Writes `model.onnx`, `weights.safetensors`, `model.json` and `MODEL_CARD.md` below `out`.

    The graph takes crops (B, C, *S) as the contract in `model.json` prepares them, any B, S as in training, and gives
    logits, or of an encoder its feature maps, finest first.

    Args:
        model: a model or encoder folder.
        out: a new or empty folder.
        home: whose store may hold evaluations of it, for the card.

    Returns:
        "files", "parity" (largest difference as a share of the largest number) and "evaluations" (how many are in the
        card).

    Raises:
        UsageError: `out` is not empty.
        SelfsightError: ONNX Runtime does not give torch's numbers, or the graph cannot be exported; nothing is written.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / "export"
        folder.mkdir()
        answer = _write(model, folder, home)
        os.rename(folder, out)  # whole or not at all
    return {"files": [str(path) for path in sorted(out.iterdir())], **answer}


def _write(model: Path, out: Path, home: Path) -> dict[str, Any]:
    loaded = open_model(model)
    network = _network(loaded)
    crops = _crops(loaded, 2)
    names = _outputs(network, crops)
    _write_graph(network, crops, names, out / "model.onnx")
    parity = _parity(network, loaded, out / "model.onnx")
    if not parity <= LARGEST_DIFFERENCE:
        raise SelfsightError(f"the exported graph is {parity:.2g} away from the model (at most {LARGEST_DIFFERENCE:g})")
    shutil.copyfile(model / "weights.safetensors", out / "weights.safetensors")
    evaluations = list(evaluations_of(loaded, home).values())
    about = {
        "kind": loaded.info["kind"], "recipe": loaded.info["recipe"], "contract": loaded.info["contract"],
        "input": {"name": "crops", "shape": ["batch", *crops.shape[1:]], "dtype": "float32"},
        "outputs": names, "classes": list(getattr(loaded.recipe.data, "label_classes", ())),
        "parity": parity, "lineage": loaded.info["lineage"], "versions": loaded.info["versions"],
        "sha256": {name: digest_of_file(out / name) for name in ("model.onnx", "weights.safetensors")},
    }  # fmt: skip
    (out / "model.json").write_text(json.dumps(about, indent=1) + "\n")
    learned_from = Store(home).get("manifest", loaded.info["lineage"].get("manifest") or "")
    manifest = read_manifest(learned_from) if learned_from else None
    (out / "MODEL_CARD.md").write_text(model_card(loaded, evaluations, manifest, about["sha256"], parity))
    return {"parity": parity, "evaluations": len(evaluations)}


class _Maps(nn.Module):
    """An encoder with a tuple instead of a list: what a graph can give."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.encoder(crops))


def _network(loaded: Loaded) -> nn.Module:
    if loaded.info["kind"] == "model":
        return load_model(loaded)
    encoder = new_encoder(loaded.recipe, loaded.contract)
    encoder.load_state_dict(loaded.part("encoder"))
    return _Maps(encoder).eval()


def _crops(loaded: Loaded, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, loaded.contract.in_channels, *loaded.contract.crop_shape, generator=generator)


def _outputs(network: nn.Module, crops: Tensor) -> list[str]:
    with torch.no_grad():
        given = network(crops)
    return ["logits"] if isinstance(given, Tensor) else [f"features_{n}" for n in range(len(given))]


def _write_graph(network: nn.Module, crops: Tensor, names: Sequence[str], path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network, (crops,), path, dynamo=True, external_data=False, verbose=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},), input_names=["crops"], output_names=list(names),
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise SelfsightError(f"this network cannot be exported to ONNX: {error}") from error


def _parity(network: nn.Module, loaded: Loaded, path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in BATCHES:
        crops = _crops(loaded, count)
        with torch.no_grad():
            given = network(crops)
        wanted = [given] if isinstance(given, Tensor) else list(given)
        for mine, theirs in zip(session.run(None, {"crops": crops.numpy()}), wanted, strict=True):
            reference = theirs.numpy()
            worst = max(worst, float(np.abs(mine - reference).max() / max(np.abs(reference).max(), 1e-12)))
    return worst
