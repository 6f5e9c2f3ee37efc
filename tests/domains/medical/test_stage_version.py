"""The preprocessing's output and its version change together, or stored entries would lie about how they were made."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel
import numpy as np

from domains.domain import Candidate
from domains.medical.entries import open_entry, open_label
from domains.medical.plan import VERSION, inspect, plan
from domains.medical.preprocess import read, read_label, write, write_label
from domains.medical.recipes import RECIPES

KNOWN = {1: "beecc99d78b9a597144a9d00f4cfaff286ba4d0fbe78dd71505e612033775e16"}
"""Version -> digest of what it writes for the volume below. A new digest needs a new version (`plan.VERSION`)."""


def test_version__changes_with_the_output(tmp_path: Path) -> None:
    index = np.indices((40, 36, 12)).astype(np.int64)
    ball = ((index - np.array([20, 18, 6])[:, None, None, None]) ** 2 * np.array([1, 1, 9])[:, None, None, None]).sum(0)
    data = np.where(ball < 256, 300 + (index[0] * 7 + index[1] * 13 + index[2] * 29) % 97, index.sum(0) % 5)
    candidate = Candidate("p", "p", {"flair": tmp_path / "flair.nii.gz"}, tmp_path / "mask.nii.gz")
    affine = np.diag([-1.5, -1.5, 5.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(data.astype(np.int16), affine), tmp_path / "flair.nii.gz")
    nibabel.save(nibabel.Nifti1Image((ball < 40).astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    recipe = RECIPES["brain_tumor"]
    contract = plan([inspect(candidate)], recipe)
    (tmp_path / "image").mkdir()
    (tmp_path / "label").mkdir()
    raw = read(candidate, recipe)
    write(raw, contract, tmp_path / "image")
    write_label(read_label(candidate, raw, contract), contract, tmp_path / "label")
    entry = open_entry(tmp_path / "image")
    digest = hashlib.sha256()
    # to a hundredth: the last bit of a float may differ between processors
    digest.update(np.round(entry.read() * 100).astype(np.int32).tobytes())
    digest.update(entry.read_foreground().astype(np.uint8).tobytes())
    digest.update(open_label(tmp_path / "label").native.astype(np.uint8).tobytes())
    assert KNOWN.get(VERSION) == digest.hexdigest()
