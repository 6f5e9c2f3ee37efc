"""pretrain: manifest + recipe -> encoder checkpoint. Never learns from a label, never sees a held-out group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domains.domain import CropSource, Domain, load
from domains.errors import NothingUsable, RecipeError
from domains.manifest import Contract, Labels, Manifest, Subject
from domains.recipe import Recipe
from domains.splits import split
from domains.store import STAGE_VERSIONS, Store
from pipelines.checkpoint import write_model
from pipelines.continuing import inherited, keep_last, last_encoder, put_into
from pipelines.dataset import label_entries, open_dataset, subject_entries
from pipelines.duplicates import near_duplicates, without_near_duplicates
from pipelines.loop import Job, Watch, train
from pipelines.models import Loaded, new_encoder, refuse_unfit_encoder
from pipelines.probing import Probing, spread
from pipelines.pseudo import proposals
from pipelines.runtime import versions
from pipelines.tracking import Tracker
from pipelines.watching import HealthWatch
from ssl_models import objectives
from ssl_models.protocols import Batch, Painter

NUM_EXAMPLES = 4
WATCH_CROPS = 32


@dataclass(frozen=True)
class Trained:
    """A trained network in the store."""

    folder: Path
    outcome: dict[str, Any]
    cached: bool


def pretrain(recipe: Recipe, home: Path, *, data: Path | None = None, continued: bool = False) -> Trained:
    """The encoder of a recipe, trained on the development groups of its newest manifest, or of `data`.

    With `continued` the training starts from the weights of the recipe's last encoder; where that one was trained on
    the same data already, it is the answer (see `pipelines.continuing`).

    Labels are read only where `recipe.pretrain.probe_every` asks for probes, which decide nothing: neither the weights
    nor their key depend on them, and the groups are named in the lineage.

    The folder in the store holds `weights.safetensors` (`encoder.*`, and `decoder.*` where the objective brings a
    decoder a head can start from), `model.json` and pictures of what the objective did.

    Raises:
        UsageError: nothing was ingested, or objective or encoder are unknown or do not fit the data.
        Preempted, Diverged, Collapsed: see `pipelines.loop`.
    """
    refuse_unfit(recipe)
    store = Store(Path(home))
    manifest, labels = open_dataset(recipe, home, data)
    parts = split(manifest.subjects, recipe.fold)
    subjects = parts.development
    if recipe.pretrain.drop_near_duplicates:
        pairs = near_duplicates(store, load(recipe.domain), (*parts.test, *subjects))
        subjects = without_near_duplicates(subjects, pairs, parts.test)
    if not subjects:
        raise NothingUsable("no development subject to pretrain on: every group is held out; ingest more groups")
    last = None
    if continued:
        last = last_encoder(recipe, store, manifest.contract, {s.group_id for s in parts.test})
    start, key = _begin(store, recipe, manifest.contract, subjects, last)
    cached = store.get("pretrain", key) is not None
    folder = store.build(
        "pretrain", key, lambda out: _pretrain(recipe, store, manifest, labels, subjects, start, key, out)
    )
    if continued or not cached:
        keep_last(recipe, store, manifest.contract, key)
    return Trained(folder, store.facts("pretrain", key), cached=cached)


def refuse_unfit(recipe: Recipe) -> None:
    """Checks, before any work, that the recipe's data can give what its objective asks for, and fits its encoder.

    Several devices must be able to share a batch, and the objective's loss of it.

    Raises:
        RecipeError: it cannot; the text names the objectives or encoders that fit.
    """
    if recipe.pretrain.batch_size % recipe.devices:
        raise RecipeError(
            f"a batch of {recipe.pretrain.batch_size} has no {recipe.devices} equal parts: set pretrain.batch_size to "
            "a multiple of devices"
        )
    refuse_unfit_encoder(recipe)
    try:
        objectives.refuse_unfit(recipe.objective, given_by(recipe))
        if recipe.devices > 1:
            objectives.refuse_ranks(recipe.objective)
    except ValueError as error:
        raise RecipeError(str(error)) from None


def given_by(recipe: Recipe) -> objectives.Given:
    """What the recipe's data can give an objective."""
    domain = load(recipe.domain)
    has_rule = domain.heads[recipe.head].propose is not None
    return objectives.Given(time=domain.has_time(recipe), painter=domain.paints(recipe), proposals=has_rule)


def _begin(
    store: Store, recipe: Recipe, contract: Contract, subjects: tuple[Subject, ...], last: Loaded | None
) -> tuple[Loaded | None, str]:
    """What to start from, and the key: those of `last` itself, if nothing is new since it was trained."""
    if last is None:
        return None, pretrain_key(store, recipe, contract, subjects)
    its_start = last.info["lineage"].get("continued_from_sha256")
    if pretrain_key(store, recipe, contract, subjects, its_start) == last.folder.name:
        return None, last.folder.name
    return last, pretrain_key(store, recipe, contract, subjects, last.info["sha256"])


def pretrain_key(
    store: Store, recipe: Recipe, contract: Contract, subjects: tuple[Subject, ...], start_sha256: str | None = None
) -> str:
    """Store key: what decides the weights - never labels, records or the names of groups."""
    parts = ("domain", "objective", "encoder", "size", "seed", "precision", "devices", "data")
    settings = recipe.pretrain.model_dump(
        mode="json", exclude={"checkpoint_every", "probe_every", "stop_on_collapse", "drop_near_duplicates"}
    )
    inputs = contract.model_dump(mode="json", exclude={"num_classes"})
    decisive: list[Any] = [recipe.digest(*parts), settings, inputs, sorted(s.entry for s in subjects)]
    if objectives.needs(recipe.objective).proposals:
        decisive += [recipe.head, STAGE_VERSIONS["pseudo"]]
    if start_sha256 is not None:
        decisive += [{"start": start_sha256}]
    return store.key("pretrain", decisive)


def _pretrain(
    recipe: Recipe, store: Store, manifest: Manifest, labels: Labels, subjects: tuple[Subject, ...],
    start: Loaded | None, key: str, out: Path,
) -> dict[str, Any]:  # fmt: skip
    domain, contract = load(recipe.domain), manifest.contract
    module = _objective(recipe, domain, contract, start)
    crops = _crops(recipe, domain, contract, store, subjects)
    run_folder = store.home / "runs" / f"pretrain-{key}"
    identity = {"verb": "pretrain", "key": key, "recipe": recipe.name}
    params: dict[str, Any] = {
        "verb": "pretrain",
        "objective": recipe.objective,
        "encoder": recipe.encoder,
        "size": recipe.size,
    }
    before = inherited(start)
    params |= {"start": start.folder.name if start else "scratch"}
    params |= {"subjects": len(subjects), "dataset_digest": manifest.digest, **recipe.pretrain.model_dump(mode="json")}
    with Tracker(
        run_folder, store.home, experiment=recipe.name, run_name="pretrain", params=params, tags=identity
    ) as tracker:
        label, asked = f"pretrain {recipe.name}", objectives.needs(recipe.objective)
        watch = HealthWatch(module, _crops_for(crops, WATCH_CROPS), recipe.pretrain, label, tracker)
        watches, probing = [Watch(watch)], None
        if recipe.pretrain.probe_every:
            probing = _probing(recipe, domain, store, contract, labels, subjects, tracker)
            watches.append(Watch(probing, probing.every))
        job = Job(
            module=module, source=crops, settings=recipe.pretrain, seed=recipe.seed, precision=recipe.precision,
            devices=recipe.devices, folder=run_folder, identity=identity, label=label,
            spatial_axes=contract.geometry.spatial_axes, crops=asked.crops, watches=tuple(watches),
            sharded=recipe.devices > 1 and recipe.size == "base",
        )  # fmt: skip
        outcome = asdict(train(job, tracker))
        health = {"before": watch.start, "after": watch.figures(module)}
        for name, picture in _pictures(module, recipe.objective, crops, domain).items():
            (out / name).write_bytes(picture)
            tracker.picture(name, picture)
        tensors = {f"encoder.{n}": t for n, t in module.encoder.state_dict().items()}
        if module.decoder is not None:
            tensors |= {f"decoder.{n}": t for n, t in module.decoder.state_dict().items()}
        lineage = {
            "manifest": store.key("manifest", manifest.digest),
            "continued_from": start.folder.name if start else None,
            "continued_from_sha256": start.info["sha256"] if start else None,
            "pretrain_groups": sorted({s.group_id for s in subjects}.union(before["pretrain_groups"])),
            "probed_groups": sorted({*(probing.group_ids if probing else ()), *before["probed_groups"]}),
            "sources": before["sources"] | manifest.sources,
            "near_duplicates": _near_duplicates(recipe, domain, store, manifest),
        }
        info = {
            "kind": "encoder", "recipe": recipe.model_dump(mode="json"), "contract": contract.model_dump(mode="json"),
            "lineage": lineage, "outcome": outcome, "health": health, "versions": versions(),
        }  # fmt: skip
        write_model(out, tensors, info)
    return outcome


def _near_duplicates(recipe: Recipe, domain: Domain, store: Store, manifest: Manifest) -> dict[str, Any] | None:
    """Pairs of nearly equal images, and whether one of each was left out; None: the domain cannot tell."""
    if domain.glance is None:
        return None
    parts = split(manifest.subjects, recipe.fold)
    held_out = {subject.subject_id for subject in parts.test}
    pairs = near_duplicates(store, domain, (*parts.test, *parts.development))
    return {
        "dropped": recipe.pretrain.drop_near_duplicates, "subjects": len(manifest.subjects),
        "pairs": [
            {"subjects": list(pair.subjects), "correlation": pair.correlation,
             "other_group": len(set(pair.groups)) > 1, "held_out": bool(held_out & set(pair.subjects))}
            for pair in pairs if not held_out.issuperset(pair.subjects)
        ],
    }  # fmt: skip


@dataclass(frozen=True)
class PainterOfNoise:
    """A negative control: asks for anomalies where the domain's painter would put them, but paints only noise."""

    painter: Painter

    def __call__(
        self, crops: Tensor, spacing_mm: Tensor | None, foreground: Tensor | None, sample_seed: Tensor
    ) -> tuple[Tensor, Tensor]:
        _, label = self.painter(crops, spacing_mm, foreground, sample_seed)
        noise = [
            torch.randn(crops.shape[1:], generator=torch.Generator().manual_seed(int(seed))) for seed in sample_seed
        ]
        return crops + 0.3 * crops.std() * torch.stack(noise).to(crops), label


@dataclass(frozen=True)
class Proposed:
    """Crops that carry the domain's proposals where a head's crops carry labels."""

    source: CropSource

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        batch = self.source.batch(subjects, seeds, crops)
        assert batch.targets is not None
        return replace(batch, targets=None, proposals=batch.targets.unflatten(0, (len(seeds), crops)))


def _crops(
    recipe: Recipe, domain: Domain, contract: Contract, store: Store, subjects: tuple[Subject, ...]
) -> CropSource:
    entries = subject_entries(store, subjects)
    if not objectives.needs(recipe.objective).proposals:
        return domain.crops(entries, None, subjects, contract, recipe, True)
    guesses = proposals(store, recipe, contract, subjects, shuffled=recipe.pretrain.control == "shuffled")
    return Proposed(domain.crops(entries, guesses, subjects, contract, recipe, True))


def _objective(recipe: Recipe, domain: Domain, contract: Contract, start: Loaded | None) -> Any:
    torch.manual_seed(recipe.seed)
    encoder = new_encoder(recipe, contract)
    if start is not None:  # before the objective copies its teacher from it
        encoder.load_state_dict(start.part("encoder"))
    painter = domain.painter(contract, recipe) if domain.painter and domain.paints(recipe) else None
    if painter is not None and recipe.pretrain.control == "noise":
        painter = PainterOfNoise(painter)
    try:
        module = objectives.build(
            recipe.objective, encoder, settings=recipe.pretrain.objectives, painter=painter,
            actions=len(contract.actions),
        )  # fmt: skip
    except ValueError as error:
        raise RecipeError(str(error)) from None
    if start is not None:
        put_into(module, start)
    return module


def _crops_for(source: CropSource, count: int, crops: int = 1) -> Batch:
    """A fixed batch for figures and pictures: the same subjects and seeds every time."""
    subjects = [i % len(source) for i in range(count)]
    return source.batch(subjects, [10_000 + i for i in range(count)], crops)


def _telling(source: CropSource, crops: int) -> Batch:
    """A fixed batch for pictures; where crops carry proposals, each subject's crop with the largest of a few."""
    batch, seeds = _crops_for(source, NUM_EXAMPLES, crops), [10_000 + i for i in range(WATCH_CROPS)]
    if batch.proposals is None:
        return batch
    subjects, chosen = [i % len(source) for i in range(NUM_EXAMPLES)], []
    for subject in subjects:
        proposed = source.batch([subject] * len(seeds), seeds).proposals
        assert proposed is not None
        chosen.append(seeds[int(proposed.flatten(1).sum(1).argmax())])
    return source.batch(subjects, chosen, crops)


def _probing(
    recipe: Recipe, domain: Domain, store: Store, contract: Contract, labels: Labels, subjects: tuple[Subject, ...],
    tracker: Tracker,
) -> Probing:  # fmt: skip
    """Probes on a few labelled subjects of those that are pretrained on."""
    labelled = [s for s in subjects if s.subject_id in labels.entries]
    chosen = [labelled[i] for i in spread([s.group_id for s in labelled])]
    targets = label_entries(store, labels, chosen)
    return Probing(
        source=domain.crops(subject_entries(store, chosen), targets, chosen, contract, recipe, False),
        group_ids=tuple(s.group_id for s in chosen), classes=contract.num_classes,
        every=recipe.pretrain.probe_every, tracker=tracker,
    )  # fmt: skip


def _pictures(module: Any, formula: str, source: CropSource, domain: Domain) -> dict[str, bytes]:
    """File name -> PNG of what each objective saw, asked and got."""
    module.eval()
    with torch.no_grad():
        panels = module.examples(_telling(source, module.needs.crops).to(next(module.parameters()).device))
    module.train()
    by_objective: dict[str, dict[str, Tensor]] = {}
    for name, panel in panels.items():
        objective, _, title = name.rpartition(": ")
        by_objective.setdefault(objective or formula, {})[title] = panel.float().cpu().numpy()
    return {f"examples-{name}.png": domain.panels(panel) for name, panel in by_objective.items()}
