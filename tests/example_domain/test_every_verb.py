"""A domain from outside the four packages, found by its entry point, goes through every verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domains.domain import find_recipe, names
from pipelines.drift import drift
from pipelines.evaluate import evaluate
from pipelines.finetune import finetune
from pipelines.ingest import ingest
from pipelines.predict import predict
from pipelines.pretrain import pretrain
from pipelines.register import register
from pipelines.report import write_report

HERE = Path(__file__).resolve().parent
TINY = {
    "pretrain.steps": "10",
    "finetune.steps": "12",
    "pretrain.batch_size": "4",
    "finetune.batch_size": "4",
    "data.max_crop": "32",
}
PIECES = 18


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were installed: its folder and its dist-info are on the path, and nothing else is done."""
    monkeypatch.syspath_prepend(str(HERE))


def test_names__a_domain_is_found_by_its_entry_point():
    assert "surfaces" in names()


def test_every_verb__from_photographs_to_predicted_masks(tmp_path):
    domain, recipe = find_recipe("surface_defects")
    recipe = recipe.changed(TINY)
    source, home, out = (tmp_path / name for name in ("source", "home", "out"))
    domain.generate(source, PIECES, 0)
    (source / "batch-00" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (source / "notes.txt").write_text("night shift")

    counts = ingest(source, recipe, home).counts
    assert (counts["accepted"], counts["refused"], counts["labels"], counts["ignored"]) == (PIECES, 1, PIECES, 2)
    assert counts["groups"] == PIECES // 3
    assert ingest(source, recipe, home).counts == counts

    encoder = pretrain(recipe, home)
    assert not encoder.cached and pretrain(recipe, home).cached
    model = finetune(recipe, home, encoder=encoder.folder, label_budget=2)
    assert len(json.loads((model.folder / "model.json").read_text())["lineage"]["label_groups"]) == 2

    judged = evaluate(model.folder, home)
    assert 0 <= judged.metrics["dice"]["mean"] <= 1 and judged.metrics["dice"]["n"] == len(judged.result["cases"])
    page = write_report(home, evaluation=judged.folder).read_text()
    assert all(case["subject_id"] in page for case in judged.result["cases"])
    assert "batch-0" not in page and "piece-0" not in page, "no name of a file or folder leaves the source"

    assert register(judged.folder, home).model.startswith("models:/surface-defects")

    domain.generate(tmp_path / "later", 6, 1)
    looked = drift(recipe, home, source=tmp_path / "later", model=encoder.folder)
    assert {one["name"] for one in looked.result["tests"][0]["statistics"]} >= {
        "Grey median",
        "crop noise",
        "embedding",
    }
    assert looked.result["new"]["groups"] == 2 and ingest(source, recipe, home).counts == counts

    photograph = source / "batch-01" / "piece-003.png"
    [made] = predict(model.folder, [photograph], out, home)
    mask = np.asarray(Image.open(made["files"][0]))
    assert mask.shape == np.asarray(Image.open(photograph)).shape and set(np.unique(mask)) <= {0, 255}
