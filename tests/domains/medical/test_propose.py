"""The proposal finds a bright lump on one side, and not what is bright on both."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from domains.medical import propose
from domains.medical.entries import open_label
from domains.medical.heads import HEADS
from domains.medical.preprocess import RawSubject, write
from domains.medical.readers import Volume
from domains.store import STAGE_VERSIONS
from tests.lesion_entries import SPACING_MM, contract_for, head

SHAPE = (8, 64, 64)


def entry_with(folder: Path, *boxes: tuple[int, int, int]) -> Path:
    """An entry of a noisy head with bright boxes of 4 x 12 x 12 voxels at these corners."""
    image = np.random.default_rng(0).normal(100, 5, SHAPE).astype(np.float32) * head(SHAPE)
    for d, h, w in boxes:
        image[d : d + 4, h : h + 12, w : w + 12] += 60
    volume = Volume(image[None], np.diag([*SPACING_MM, 1.0]), SPACING_MM, True, "x")
    folder.mkdir()
    write(RawSubject(volume, head(SHAPE), {}, "x"), contract_for("2d", (64, 64)), folder)
    return folder


def test_asymmetric_blob__finds_the_lump_on_one_side(tmp_path: Path) -> None:
    contract = contract_for("2d", (64, 64))
    mask = propose.asymmetric_blob(entry_with(tmp_path / "e", (2, 26, 12)), contract)[1] > 0.5
    truth = np.zeros(SHAPE, dtype=bool)
    truth[2:6, 26:38, 12:24] = True
    assert (mask & truth).sum() > 0.9 * truth.sum()
    assert mask.sum() < 3 * truth.sum()  # the smoothing of 4 mm makes a box of 24 mm larger


def test_asymmetric_blob__one_sided_before_larger_two_sided(tmp_path: Path) -> None:
    entry = entry_with(tmp_path / "e", (1, 10, 16), (1, 10, 36), (2, 38, 12), (1, 16, 16), (1, 16, 36))
    mask = propose.asymmetric_blob(entry, contract_for("2d", (64, 64)))[1] > 0.5
    assert np.argwhere(mask)[:, 1].mean() > 34  # the single one lies further back


def test_asymmetric_blob__nothing_stands_out__no_proposal(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    image = np.where(head(SHAPE), np.arange(64, dtype=np.float32) % 2 + 100, 0)  # mirrored onto its opposite
    volume = Volume(image[None].astype(np.float32), np.diag([*SPACING_MM, 1.0]), SPACING_MM, True, "x")
    write(RawSubject(volume, head(SHAPE), {}, "x"), contract_for("2d", (64, 64)), folder)
    prediction = propose.asymmetric_blob(folder, contract_for("2d", (64, 64)))
    assert prediction[1].mean() < 0.02 and np.allclose(prediction.sum(0), 1)


def test_version__changes_with_the_proposal(tmp_path: Path) -> None:
    """A new digest needs a new version of stage "pseudo" in `domains.store`, or old masks would be taken for new."""
    prediction = propose.asymmetric_blob(entry_with(tmp_path / "e", (2, 26, 12)), contract_for("2d", (64, 64)))
    digest = hashlib.sha256((prediction[1] > 0.5).tobytes()).hexdigest()[:16]
    assert {1: "16d88aac86a59aa6"}.get(STAGE_VERSIONS["pseudo"]) == digest


def test_write_mask__reads_back_as_a_label(tmp_path: Path) -> None:
    contract = contract_for("2d", (64, 64))
    entry = entry_with(tmp_path / "e", (2, 26, 12))
    prediction = propose.asymmetric_blob(entry, contract)
    out = tmp_path / "mask"
    out.mkdir()
    write_mask = HEADS["tumor"].write_mask
    assert write_mask is not None
    write_mask(prediction, entry, out, contract)
    assert HEADS["tumor"].score(prediction, entry, out)[0]["dice"] == 1.0
    assert open_label(out).native.any()
