"""A small subject with one bright lesion, as the store holds it, for tests of the judging side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from domains.manifest import Contract
from domains.medical.preprocess import RawLabel, RawSubject, write, write_label
from domains.medical.readers import Volume

SPACING_MM = (5.0, 2.0, 2.0)


def head(shape: tuple[int, int, int]) -> np.ndarray:
    """(D, H, W) bool: an elliptic cylinder that leaves a rim of air."""
    _, h, w = np.meshgrid(*(np.linspace(-1.1, 1.1, n) for n in shape), indexing="ij")
    return h**2 + w**2 < 1


def lesion(shape: tuple[int, int, int]) -> np.ndarray:
    """(D, H, W) bool: a box, off centre."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(n // 2 - n // 8, n // 2 + n // 8 + 1) for n in shape)] = True
    return mask


def contract_for(kind: str, crop_shape: tuple[int, ...], num_classes: int = 2) -> Contract:
    flat = kind == "2d"
    ones = (1,) * len(crop_shape)
    return Contract(
        domain="medical",
        version=1,
        in_channels=3 if flat else 1,
        num_classes=num_classes,
        crop_shape=crop_shape,
        pooling=(ones, tuple(2 * n for n in ones)),
        patch_shape=tuple(4 * n for n in ones),
        rules={
            "kind": kind,
            "neighbours": 1 if flat else 0,
            "axes": "SAR",
            "channels": ["flair"],
            "spacing_mm": [None, 2.0, 2.0],
        },
    )


def write_entries(
    folder: Path, contract: Contract, shape: tuple[int, int, int] = (8, 64, 64), *, spacing_known: bool = True
) -> tuple[Path, Path]:
    """Subject entry and label entry of a noisy head with one bright lesion (class 1; lower half class 2 of three)."""
    inside, mask = head(shape), lesion(shape)
    noise = np.random.default_rng(0).normal(size=shape)
    image = (inside * (100 + 10 * noise + 40 * mask)).astype(np.float32)
    volume = Volume(image[None], np.diag([*SPACING_MM, 1.0]), SPACING_MM, spacing_known, "digest")
    label = mask.astype(np.uint8)
    if contract.num_classes == 3:
        label[:, : shape[1] // 2] *= 2
    entry, label_entry = folder / "subject", folder / "label"
    entry.mkdir(), label_entry.mkdir()
    write(RawSubject(volume, inside, {}, "digest"), contract, entry)
    write_label(RawLabel(label, volume, "digest"), contract, label_entry)
    return entry, label_entry
