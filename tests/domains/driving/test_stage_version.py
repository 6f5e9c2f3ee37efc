"""The preprocessing's output and its version change together, or stored entries would lie about how they were made."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from domains.domain import Candidate
from domains.driving import DOMAIN
from domains.driving.recipes import RECIPES
from domains.driving.recording import PLAIN
from domains.driving.stored_video import ENCODER, SCALING

KNOWN = {2: "24a97806dcfea2e4060633d01429d5e7b730ec0d9bc9d43e2734e56f05c48a0a"}
"""Version -> digest of what it writes for the frame below, and of how it encodes recordings (their bytes depend on the
build of the encoder). A new digest needs a new version (`plan.VERSION`)."""


def test_version__changes_with_the_output(tmp_path: Path) -> None:
    rows, columns, colour = np.indices((360, 500, 3))
    Image.fromarray(((rows * 7 + columns * 13 + colour * 40) % 251).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(((rows + columns)[..., 0] // 40 % 12).astype(np.uint8)).save(tmp_path / "mask.png")
    candidate = Candidate("p", "p", {"frame": tmp_path / "a.png"}, tmp_path / "mask.png")
    recipe = RECIPES["road_scene"].changed({"data.height": "240", "data.width": "320"})
    contract = DOMAIN.plan([DOMAIN.inspect(candidate)], recipe)
    raw = DOMAIN.read(candidate, recipe)
    digest = hashlib.sha256()
    digest.update(repr((ENCODER, int(SCALING), PLAIN)).encode())
    for kind, write, content in (
        ("image", DOMAIN.write, raw),
        ("label", DOMAIN.write_label, DOMAIN.read_label(candidate, raw, contract)),
    ):
        (tmp_path / kind).mkdir()
        write(content, contract, tmp_path / kind)
        for file in sorted((tmp_path / kind).iterdir()):
            digest.update(file.read_bytes())
    assert KNOWN.get(DOMAIN.version) == digest.hexdigest()
