"""embed: encoder (or none: random) + subjects -> one row of features a subject, for maps and for choosing labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from domains.domain import CropSource, load
from domains.errors import NothingUsable
from domains.manifest import Contract, Manifest, Subject
from domains.recipe import Recipe
from domains.store import Store
from pipelines.dataset import subject_entries
from pipelines.models import Loaded, new_encoder, open_model
from pipelines.progress import Progress
from pipelines.runtime import inference, memory_format

CROPS = 12
"""Of each subject: with fewer the row says more about where the crops fell than about the subject."""
FILE = "embeddings.safetensors"


def embeddings(
    encoder: Path | None, home: Path, recipe: Recipe, manifest: Manifest, subjects: Sequence[Subject]
) -> np.ndarray:
    """What an encoder makes of each subject: a pure function of its weights and of the subjects' entries.

    Every subject is cut at `CROPS` places that are drawn from the same seeds, without augmentation and without a
    label. A crop gives the means over space of the two coarsest feature maps; a row is the mean and the standard
    deviation of these over the subject's crops. Kept in the store: the second call reads.

    Args:
        encoder: an encoder or model folder, or None for the recipe's encoder with random weights from its seed (the
            negative control).
        home: whose store holds the subjects.
        recipe: says how crops are cut and at which precision the network runs.
        manifest: the contract the subjects were prepared under.
        subjects: N, in any order.

    Returns:
        (N, E) float32, a row for each subject in the order given; E is twice the widths of the two maps.

    Raises:
        NothingUsable: no subject.
        ContractMismatch: the encoder was trained on data prepared in another way.
    """
    if not subjects:
        raise NothingUsable("no subject to embed")
    store = Store(Path(home))
    loaded = open_model(encoder) if encoder is not None else None
    if loaded is not None:
        manifest.contract.check(loaded.contract, mine="the data", theirs="the encoder")
    made_by = loaded.recipe if loaded else recipe
    contract = loaded.contract if loaded else manifest.contract
    by_entry = {subject.entry: subject for subject in subjects}
    entries = sorted(by_entry)
    weights = loaded.info["sha256"] if loaded else ["random", recipe.seed, recipe.encoder, recipe.size]
    inputs = contract.model_dump(mode="json", exclude={"num_classes"})
    key = store.key("embed", [weights, recipe.digest("domain", "data", "precision"), inputs, CROPS, entries])

    def write(out: Path) -> dict[str, Any]:
        ordered = [by_entry[entry] for entry in entries]
        source = load(recipe.domain).crops(subject_entries(store, ordered), None, ordered, contract, recipe, False)
        rows = _embed(_network(made_by, contract, loaded), source, recipe.precision, contract)
        save_file({"embeddings": rows}, out / FILE)
        return {"subjects": len(rows), "width": rows.shape[1]}

    found: np.ndarray = load_file(store.build("embed", key, write) / FILE)["embeddings"]
    place = {entry: row for row, entry in enumerate(entries)}
    return found[[place[subject.entry] for subject in subjects]]


def _network(recipe: Recipe, contract: Contract, loaded: Loaded | None) -> Any:
    """The encoder with its weights, or with random ones from the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = new_encoder(recipe, contract)
    if loaded is not None:
        network.load_state_dict(loaded.part("encoder"))
    return network.eval().to(memory_format=memory_format(contract.geometry.spatial_axes))


def _embed(network: Any, source: CropSource, precision: str, contract: Contract) -> np.ndarray:
    """(N, E) float32. One subject a batch, so that a row does not depend on which others are asked for."""
    layout = memory_format(contract.geometry.spatial_axes)
    rows = []
    with inference(precision), Progress("embed", len(source), unit="subjects") as progress:
        for subject in range(len(source)):
            crops = source.batch([subject] * CROPS, range(CROPS)).crops[:, 0]
            rows.append(pool(network(crops.contiguous(memory_format=layout))))
            progress.advance()
    return torch.stack(rows).numpy()


def pool(features: Sequence[Tensor]) -> Tensor:
    """Feature maps [(V, C, *S)] of a subject's V crops, fine to coarse -> (2 * (C + C'),) float32."""
    crops = torch.cat([level.float().flatten(2).mean(-1) for level in features[-2:]], dim=1)
    return torch.cat([crops.mean(0), crops.std(0, correction=0)])
