"""The preprocessing's output and its version change together, or stored entries would lie about how they were made."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from domains.domain import Candidate
from domains.driving import DOMAIN
from domains.driving.recipes import RECIPES

KNOWN = {1: "a2bd931b0ddf8623ed9debf9e9803bf7e7637d902d5523f2f80f90c43c0957cf"}
"""Version -> digest of what it writes for the frame below. A new digest needs a new version (`plan.VERSION`)."""


def test_version__changes_with_the_output(tmp_path: Path) -> None:
    rows, columns, colour = np.indices((360, 500, 3))
    Image.fromarray(((rows * 7 + columns * 13 + colour * 40) % 251).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(((rows + columns)[..., 0] // 40 % 12).astype(np.uint8)).save(tmp_path / "mask.png")
    candidate, recipe = Candidate("p", "p", {"frame": tmp_path / "a.png"}, tmp_path / "mask.png"), RECIPES["road_scene"]
    contract = DOMAIN.plan([DOMAIN.inspect(candidate)], recipe)
    raw = DOMAIN.read(candidate, recipe)
    digest = hashlib.sha256()
    for kind, write, content in (
        ("image", DOMAIN.write, raw),
        ("label", DOMAIN.write_label, DOMAIN.read_label(candidate, raw, contract)),
    ):
        (tmp_path / kind).mkdir()
        write(content, contract, tmp_path / kind)
        for file in sorted((tmp_path / kind).iterdir()):
            digest.update(file.read_bytes())
    assert KNOWN.get(DOMAIN.version) == digest.hexdigest()
