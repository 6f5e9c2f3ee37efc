"""finetune: encoder checkpoint (or none: from scratch) + labelled development groups -> model checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from domains.domain import CropSource, load
from domains.errors import NothingUsable, UsageError
from domains.head import Head
from domains.manifest import Contract, Labels, Manifest, Subject
from domains.recipe import Recipe
from domains.splits import label_budget as within_budget
from domains.splits import labelled_by, split, unit_of
from domains.store import Store
from pipelines.checkpoint import write_model
from pipelines.dataset import label_entries, open_dataset, strata_of, subject_entries
from pipelines.loop import Job, train
from pipelines.models import DenseModel, Loaded, new_model, open_model, refuse_unfit_encoder, start_from
from pipelines.pretrain import Trained
from pipelines.pseudo import masks_of
from pipelines.runtime import versions
from pipelines.tracking import Tracker
from ssl_models.protocols import Batch, Losses

DEVICES = 1
"""Fine-tuning takes so many, whatever a recipe says: labels are few, and head losses are taken over a batch."""


class Supervised(nn.Module):
    """A model with its head's loss: what the training loop calls."""

    def __init__(self, model: DenseModel, head: Head) -> None:
        super().__init__()
        self.model = model
        self._loss = head.loss

    def forward(self, batch: Batch) -> Losses:
        return Losses(total=self._loss(self.model(batch.crops[:, 0]), batch))


def finetune(
    recipe: Recipe, home: Path, *, encoder: Path | None, label_budget: int | None = None,
    label_groups: Sequence[str] | None = None, teacher: Path | None = None, data: Path | None = None,
) -> Trained:  # fmt: skip
    """A model trained on the labels of the development groups.

    Args:
        recipe: whose head is trained.
        home: the store, runs and registry.
        encoder: folder of a pretrained encoder, or None to start from scratch. Where it brings a decoder of the
            right shape, that is kept too.
        label_budget: how many labelled groups (subjects, where the head counts these) may be used (all by default);
            no label is put aside for validation. 0 keeps the encoder and its decoder as they are: a model with zero
            labels.
        label_groups: the labelled groups (subjects, where the head counts these) that may be used, named instead of
            counted.
        teacher: folder of a model whose masks stand in for the labels of all other development subjects, which
            together count as much as the labelled ones.
        data: a manifest to use instead of the newest.

    Raises:
        RecipeError: the encoder is not made for the data.
        UsageError: no labels, or zero labels without a decoder to keep.
        ContractMismatch: the encoder saw data prepared in another way.
        Preempted, Diverged: see `pipelines.loop`.
    """
    refuse_unfit_encoder(recipe)
    store = Store(Path(home))
    manifest, labels = open_dataset(recipe, home, data)
    development = split(manifest.subjects, recipe.fold).development
    labelled = [s for s in development if s.subject_id in labels.entries]
    head = load(recipe.domain).heads[recipe.head]
    single = head.counts_subjects
    if label_groups is None:
        strata = strata_of(head, store, labels, labelled)
        subjects = within_budget(labelled, label_budget, recipe.seed, strata, single=single)
    else:
        subjects = labelled_by(label_groups, labelled, single)
    if not subjects and label_budget != 0:
        raise NothingUsable(f"no labelled development subject for {recipe.name}: ingest masks first")
    start = open_model(encoder) if encoder is not None else None
    known = {unit_of(s, single) for s in subjects}
    others, weight = tuple(s for s in development if unit_of(s, single) not in known), float(len(known))
    if subjects and others and teacher is None and start is not None and recipe.finetune.self_training:
        teacher = _zero_label_model(recipe, home, encoder, start, manifest.contract, data)
        weight = recipe.finetune.self_training
    taught = _Taught(open_model(teacher), others, weight) if teacher is not None else None
    key = finetune_key(store, recipe, manifest, labels, subjects, start, taught)
    if (found := store.get("finetune", key)) is not None:
        return Trained(found, store.facts("finetune", key), cached=True)
    folder = store.build(
        "finetune", key, lambda out: _finetune(recipe, store, manifest, labels, subjects, start, taught, key, out)
    )
    return Trained(folder, store.facts("finetune", key), cached=False)


def notes(recipe: Recipe) -> list[str]:
    """What a recipe asks for and fine-tuning does not do, in words."""
    if recipe.devices == DEVICES:
        return []
    return [f"devices={recipe.devices} is for pretraining: fine-tuning takes {DEVICES}"]


def _zero_label_model(
    recipe: Recipe, home: Path, encoder: Path | None, start: Loaded, contract: Contract, data: Path | None
) -> Path | None:
    """What the encoder and the decoder it brings are by themselves, or None where it brings none that fits."""
    if not start_from(new_model(recipe, contract), start, recipe, contract)["decoder_kept"]:
        return None
    return finetune(recipe, home, encoder=encoder, label_budget=0, data=data).folder


@dataclass(frozen=True)
class _Taught:
    """Unlabelled subjects whose labels a model stands in for."""

    teacher: Loaded
    subjects: tuple[Subject, ...]
    weight: float
    """How many labelled groups they count as."""


def finetune_key(
    store: Store,
    recipe: Recipe,
    manifest: Manifest,
    labels: Labels,
    subjects: tuple[Subject, ...],
    start: Loaded | None,
    taught: _Taught | None = None,
) -> str:
    """Store key: what decides the weights."""
    parts = ("domain", "head", "encoder", "size", "seed", "precision", "devices", "data")
    pairs = sorted((s.entry, labels.entries[s.subject_id]) for s in subjects)
    begin = start.info["sha256"] if start else None
    inputs = [
        recipe.digest(*parts),
        recipe.finetune.decisive(),
        manifest.contract.model_dump(mode="json"),
        pairs,
        begin,
    ]
    if taught is not None:
        inputs += [taught.teacher.info["sha256"], sorted(s.entry for s in taught.subjects), taught.weight]
    return store.key("finetune", inputs)


def _finetune(
    recipe: Recipe, store: Store, manifest: Manifest, labels: Labels, subjects: tuple[Subject, ...],
    start: Loaded | None, taught: _Taught | None, key: str, out: Path,
) -> dict[str, Any]:  # fmt: skip
    domain, contract = load(recipe.domain), manifest.contract
    model = new_model(recipe, contract)
    taken = start_from(model, start, recipe, contract) if start else {}
    model.encoder.requires_grad_(recipe.finetune.encoder == "full")
    outcome: dict[str, Any] = {"steps": 0, "seconds": 0.0}
    before = [one.info["lineage"] for one in (start, taught.teacher if taught else None) if one]
    label_groups = sorted({s.group_id for s in subjects}.union(*(one.get("label_groups", []) for one in before)))
    label_digests = {s.content_digest for s in subjects}.union(*(one.get("label_digests", []) for one in before))
    lineage: dict[str, Any] = {
        "manifest": store.key("manifest", manifest.digest),
        "labels": store.key("labels", labels.digest),
        "encoder": start.folder.name if start else None,
        "encoder_sha256": start.info["sha256"] if start else None,
        "pretrain_groups": _seen_unlabelled(start, taught),
        "label_groups": label_groups,
        "label_digests": sorted(label_digests),
        "sources": manifest.sources | (start.info["lineage"]["sources"] if start else {}),
    }
    if subjects or taught:
        run_folder = store.home / "runs" / f"finetune-{key}"
        identity = {"verb": "finetune", "key": key, "recipe": recipe.name}
        params = {"verb": "finetune", "head": recipe.head, "encoder": recipe.encoder, "size": recipe.size,
                  "label_groups": len(label_groups), "start": lineage["encoder"] or "scratch",
                  "dataset_digest": manifest.digest, "labels_digest": labels.digest,
                  **recipe.finetune.model_dump(mode="json")}  # fmt: skip
        with Tracker(
            run_folder, store.home, experiment=recipe.name, run_name="finetune", params=params, tags=identity
        ) as tracker:
            crops = _crops(recipe, store, contract, labels, subjects, taught)
            job = Job(
                module=Supervised(model, domain.heads[recipe.head]), source=crops, settings=recipe.finetune,
                seed=recipe.seed, precision=recipe.precision, devices=DEVICES, folder=run_folder,
                identity=identity, label=f"finetune {recipe.name}", spatial_axes=contract.geometry.spatial_axes,
            )  # fmt: skip
            outcome = asdict(train(job, tracker))
    elif not taken.get("decoder_kept"):
        raise UsageError("zero labels need an encoder with a decoder: pretrain with proposals, for example")
    info = {
        "kind": "model", "recipe": recipe.model_dump(mode="json"), "contract": contract.model_dump(mode="json"),
        "lineage": lineage, "start": taken, "outcome": outcome, "versions": versions(),
    }  # fmt: skip
    write_model(out, dict(model.state_dict()), info)
    return outcome


def _seen_unlabelled(start: Loaded | None, taught: _Taught | None) -> list[str]:
    """Groups that the weights have seen without their labels."""
    seen = {s.group_id for s in taught.subjects} if taught else set()
    for before in [start, taught.teacher if taught else None]:
        seen |= set(before.info["lineage"]["pretrain_groups"]) if before else set()
    return sorted(seen)


def _crops(
    recipe: Recipe, store: Store, contract: Contract, labels: Labels, subjects: tuple[Subject, ...],
    taught: _Taught | None,
) -> CropSource:  # fmt: skip
    """Crops of the labelled subjects, repeated so that those a teacher has labelled count as little as they should."""
    learned, targets = list(subjects), label_entries(store, labels, subjects)
    if taught is not None:
        often = max(1, round(len(taught.subjects) / taught.weight)) if subjects else 0
        learned, targets = learned * often + list(taught.subjects), targets * often
        targets += masks_of(store, taught.teacher, taught.subjects)
    crops = load(recipe.domain).crops
    return crops(subject_entries(store, learned), targets, learned, contract, recipe, recipe.finetune.augment)
