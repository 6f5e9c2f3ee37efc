"""`selfsight demo driving`, made smaller still: a bad file is named, and there is something to look at in the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows import demo

TINY = {
    "data.height": "48", "data.width": "80", "data.crop_height": "48", "data.crop_width": "80",
    "pretrain.steps": "2", "pretrain.batch_size": "2", "pretrain.warmup_steps": "1",
    "finetune.steps": "2", "finetune.batch_size": "2", "finetune.warmup_steps": "1",
}  # fmt: skip


@pytest.mark.slow
def test_demo__driving_ends_with_an_overlay_of_a_drive_it_has_not_seen(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(demo.DEMOS, "driving", replace(demo.DEMOS["driving"], subjects=20, short=TINY))
    answer = demo.demo("driving", None, tmp_path / "home")
    [refused] = answer["refused_files"]
    assert refused["file"].endswith("broken/road000.mp4") and answer["trivial"]["name"].startswith("Hough")
    videos = [Path(file) for file in answer["overlay"] if file.endswith(".mp4")]
    assert len(videos) == 1 and videos[0].stat().st_size > 10_000
    assert not list((tmp_path / "home" / "demo").glob("*.part"))
    again = demo.demo("driving", None, tmp_path / "home")
    assert again["cached"] and again["model"] == answer["model"] and again["overlay"] == answer["overlay"]
