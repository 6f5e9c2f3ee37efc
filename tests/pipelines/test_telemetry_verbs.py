"""Telemetry from a generated archive to an objective: clips carry ego-motion, and the world model hears it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domains.domain import find_recipe
from domains.driving.entries import open_entry
from domains.driving.generate import write_recording
from domains.driving.telemetry import ACTIONS
from domains.store import Store
from pipelines.dataset import open_dataset
from pipelines.ingest import ingest
from pipelines.pretrain import pretrain

SMALL = {
    "data.height": "48", "data.width": "80", "data.crop_height": "48", "data.crop_width": "64", "data.clip_frames": "8",
    "objective": "world_model", "pretrain.objectives": "{}", "pretrain.steps": "2", "pretrain.batch_size": "4",
    "pretrain.warmup_steps": "1",
}  # fmt: skip


@pytest.mark.slow
def test_pretrain__a_world_model_on_clips_with_and_without_telemetry(tmp_path: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    for number in range(3):
        write_recording(source, f"road{number}", [number], 2.0, seconds=5.0)
    (source / "road2.telemetry.csv").unlink()
    (source / "dataset.yaml").write_text("telemetry_offset_seconds: 2.0\n")
    recipe = find_recipe("dashcam_lanes")[1].changed(SMALL)
    taken = ingest(source, recipe, home)
    assert not taken.refused and taken.counts["accepted"] == 3 + 2
    manifest, _ = open_dataset(recipe, home)
    assert manifest.contract.actions == ACTIONS
    store = Store(home)
    entries = [open_entry(store.path("ingest", subject.entry)) for subject in manifest.subjects]
    known = [entry.actions for entry in entries if entry.actions is not None]
    assert 0 < len(known) < len(entries) and np.isfinite(np.concatenate(known)).mean() > 0.6
    assert pretrain(recipe, home).folder.is_dir()
