"""Frame prediction against copying the last frame, on drives that it has not learned from; real data, by hand.

    python tests/benchmarks/frame_prediction.py SOURCE SOURCE... [--steps 240] [--pictures DIR]

Not a bench_*.py: it needs real data and minutes. Each source counts as one drive and is held out once. Prints a JSON
line for each and one for all.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from domains.domain import CropSource, Domain, find_recipe
from domains.manifest import Manifest
from domains.recipe import Recipe
from domains.store import Store
from pipelines.dataset import open_dataset, subject_entries
from pipelines.ingest import ingest
from pipelines.intervals import interval
from pipelines.loop import Job, train
from pipelines.models import new_encoder
from pipelines.tracking import Tracker
from ssl_models import objectives

CLIPS = {
    "objective": "frame_prediction", "precision": "32-true", "data.clip_frames": "8", "data.frames_per_second": "10",
    "data.height": "64", "data.width": "112", "data.crop_height": "64", "data.crop_width": "112",
    "pretrain.batch_size": "4", "pretrain.learning_rate": "1e-3", "pretrain.warmup_steps": "20",
}  # fmt: skip
JUDGED, AT_ONCE = 32, 8
"""Clips of a drive that is held out, and of a batch of them."""
FIGURES = ("mse", "copy_mse", "psnr", "copy_psnr", "ssim", "copy_ssim")


def crops_of(domain: Domain, recipe: Recipe, drives: list[tuple[Store, Manifest]], augmented: bool) -> CropSource:
    """Clips of several homes."""
    entries = [entry for store, manifest in drives for entry in subject_entries(store, manifest.subjects)]
    subjects = tuple(subject for _, manifest in drives for subject in manifest.subjects)
    return domain.crops(entries, None, subjects, drives[0][1].contract, recipe, augmented)


def learned(recipe: Recipe, source: CropSource, manifest: Manifest, home: Path) -> torch.nn.Module:
    """A predictor of frames, trained on the clips of a source."""
    torch.manual_seed(recipe.seed)
    encoder = new_encoder(recipe, manifest.contract)
    module = objectives.build(recipe.objective, encoder, settings={}, painter=None, actions=0)
    with Tracker(home / "runs" / "one", home, experiment="x", run_name="x", params={}, tags={}) as tracker:
        job = Job(
            module=module, source=source, settings=recipe.pretrain, seed=recipe.seed, precision=recipe.precision,
            devices=1, spatial_axes=3, folder=home / "runs" / "one", identity={"key": "one"}, label="frame_prediction",
        )  # fmt: skip
        train(job, tracker)
    return module.eval()


@torch.no_grad()
def judged(module: torch.nn.Module, source: CropSource) -> dict[str, float]:
    """Means over `JUDGED` fixed clips: the source's recordings in turn."""
    found = []
    for first in range(0, JUDGED, AT_ONCE):
        places = range(first, first + AT_ONCE)
        parts = module(source.batch([n % len(source) for n in places], [10_000 + n for n in places], 1)).parts
        found.append([float(parts[name]) for name in FIGURES])
    return dict(zip(FIGURES, np.mean(found, axis=0).tolist(), strict=True))


def main() -> None:
    """Each source held out once."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("sources", nargs="+", type=Path)
    asked.add_argument("--steps", type=int, default=240)
    asked.add_argument("--pictures", type=Path, help="folder: past and future, predicted, copied")
    options = asked.parse_args()
    domain, recipe = find_recipe("dashcam_lanes")
    recipe = recipe.changed(CLIPS | {"pretrain.steps": str(options.steps)})
    with tempfile.TemporaryDirectory() as scratch:

        def taken(source: Path) -> tuple[Store, Manifest]:
            home = Path(scratch) / source.name
            ingest(source, recipe, home)
            return Store(home), open_dataset(recipe, home, None)[0]

        drives = {source.name: taken(source) for source in options.sources}
        better = []
        for name, drive in drives.items():
            others = [other for key, other in drives.items() if key != name]
            home = Path(scratch) / f"without-{name}"
            module = learned(recipe, crops_of(domain, recipe, others, True), drive[1], home)
            held_out = crops_of(domain, recipe, [drive], False)
            figures = judged(module, held_out)
            better.append(figures["psnr"] - figures["copy_psnr"])
            print(json.dumps({"held_out": name} | {k: round(v, 4) for k, v in figures.items()}), flush=True)
            if options.pictures:
                panels = module.examples(held_out.batch([0, len(held_out) // 2], [1, 2], 1))
                shown = domain.panels({title: panel.float().numpy() for title, panel in panels.items()})
                options.pictures.mkdir(parents=True, exist_ok=True)
                (options.pictures / f"{name}.png").write_bytes(shown)
        print(json.dumps({"psnr_gain": interval(better, list(drives))}))


if __name__ == "__main__":
    sys.exit(main())
