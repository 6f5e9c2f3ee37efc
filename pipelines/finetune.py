"""finetune: encoder checkpoint (or none: from scratch) + labelled development groups -> model checkpoint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from domains.domain import load
from domains.errors import NothingUsable, UsageError
from domains.head import Head
from domains.manifest import Labels, Manifest, Subject
from domains.recipe import Recipe
from domains.splits import label_budget as within_budget
from domains.splits import split
from domains.store import Store
from pipelines.checkpoint import write_model
from pipelines.dataset import label_entries, open_dataset, subject_entries
from pipelines.loop import Job, train
from pipelines.models import DenseModel, Loaded, new_model, open_model, start_from
from pipelines.pretrain import Trained
from pipelines.runtime import versions
from pipelines.tracking import Tracker
from ssl_models.protocols import Batch, Losses


class Supervised(nn.Module):
    """A model with its head's loss: what the training loop calls."""

    def __init__(self, model: DenseModel, head: Head) -> None:
        super().__init__()
        self.model = model
        self._loss = head.loss

    def forward(self, batch: Batch) -> Losses:
        return Losses(total=self._loss(self.model(batch.crops[:, 0]), batch))


def finetune(
    recipe: Recipe, home: Path, *, encoder: Path | None, label_budget: int | None = None, data: Path | None = None
) -> Trained:
    """A model trained on the labels of the development groups.

    Args:
        recipe: whose head is trained.
        home: the store, runs and registry.
        encoder: folder of a pretrained encoder, or None to start from scratch. Where it brings a decoder of the
            right shape, that is kept too.
        label_budget: how many labelled groups may be used (all by default); no label is put aside for validation.
            0 keeps the encoder and its decoder as they are: a model with zero labels.
        data: a manifest to use instead of the newest.

    Raises:
        UsageError: no labels, or zero labels without a decoder to keep.
        ContractMismatch: the encoder saw data prepared in another way.
        Preempted, Diverged: see `pipelines.loop`.
    """
    store = Store(Path(home))
    manifest, labels = open_dataset(recipe, home, data)
    development = [s for s in split(manifest.subjects).development if s.subject_id in labels.entries]
    subjects = within_budget(development, label_budget, recipe.seed)
    if not subjects and label_budget != 0:
        raise NothingUsable(f"no labelled development subject for {recipe.name}: ingest masks first")
    start = open_model(encoder) if encoder is not None else None
    key = finetune_key(store, recipe, manifest, labels, subjects, start)
    if (found := store.get("finetune", key)) is not None:
        return Trained(found, store.facts("finetune", key), cached=True)
    folder = store.build(
        "finetune", key, lambda out: _finetune(recipe, store, manifest, labels, subjects, start, key, out)
    )
    return Trained(folder, store.facts("finetune", key), cached=False)


def finetune_key(
    store: Store,
    recipe: Recipe,
    manifest: Manifest,
    labels: Labels,
    subjects: tuple[Subject, ...],
    start: Loaded | None,
) -> str:
    """Store key: what decides the weights."""
    parts = ("domain", "head", "encoder", "size", "seed", "precision", "devices", "data")
    settings = recipe.finetune.model_dump(mode="json", exclude={"checkpoint_every"})
    pairs = sorted((s.entry, labels.entries[s.subject_id]) for s in subjects)
    begin = start.info["sha256"] if start else None
    return store.key(
        "finetune", [recipe.digest(*parts), settings, manifest.contract.model_dump(mode="json"), pairs, begin]
    )


def _finetune(
    recipe: Recipe, store: Store, manifest: Manifest, labels: Labels, subjects: tuple[Subject, ...],
    start: Loaded | None, key: str, out: Path,
) -> dict[str, Any]:  # fmt: skip
    domain, contract = load(recipe.domain), manifest.contract
    model = new_model(recipe, contract)
    taken = start_from(model, start, recipe, contract) if start else {}
    outcome: dict[str, Any] = {"steps": 0, "seconds": 0.0}
    lineage = {
        "manifest": store.key("manifest", manifest.digest),
        "labels": store.key("labels", labels.digest),
        "encoder": start.folder.name if start else None,
        "encoder_sha256": start.info["sha256"] if start else None,
        "pretrain_groups": start.info["lineage"]["pretrain_groups"] if start else [],
        "label_groups": sorted({s.group_id for s in subjects}),
        "label_digests": sorted(s.content_digest for s in subjects),
        "sources": manifest.sources,
    }
    if subjects:
        run_folder = store.home / "runs" / f"finetune-{key}"
        identity = {"verb": "finetune", "key": key, "recipe": recipe.name}
        params = {"verb": "finetune", "head": recipe.head, "encoder": recipe.encoder, "size": recipe.size,
                  "label_groups": len(lineage["label_groups"]), "start": lineage["encoder"] or "scratch",
                  "dataset_digest": manifest.digest, "labels_digest": labels.digest,
                  **recipe.finetune.model_dump(mode="json")}  # fmt: skip
        with Tracker(
            run_folder, store.home, experiment=recipe.name, run_name="finetune", params=params, tags=identity
        ) as tracker:
            crops = domain.crops(
                subject_entries(store, subjects), label_entries(store, labels, subjects), subjects, contract, recipe,
                recipe.finetune.augment,
            )  # fmt: skip
            job = Job(
                module=Supervised(model, domain.heads[recipe.head]), source=crops, settings=recipe.finetune,
                seed=recipe.seed, precision=recipe.precision, devices=recipe.devices, folder=run_folder,
                identity=identity, label=f"finetune {recipe.name}", spatial_axes=contract.geometry.spatial_axes,
            )  # fmt: skip
            outcome = asdict(train(job, tracker))
    elif not taken.get("decoder_kept"):
        raise UsageError("zero labels need an encoder with a decoder: pretrain with anomaly_synthesis first")
    info = {
        "kind": "model", "recipe": recipe.model_dump(mode="json"), "contract": contract.model_dump(mode="json"),
        "lineage": lineage, "start": taken, "outcome": outcome, "versions": versions(),
    }  # fmt: skip
    write_model(out, dict(model.state_dict()), info)
    return outcome
