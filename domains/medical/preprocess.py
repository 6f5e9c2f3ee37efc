"""From files to the store: read and check, normalise, resample, write compressed arrays; the same for labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from domains.domain import Candidate
from domains.errors import Refused
from domains.manifest import Contract
from domains.medical.channels import read_channels, refuse_other_grid
from domains.medical.entries import CHANNELS_FILE, STEPS, Grid
from domains.medical.labels import checked_label
from domains.medical.quality import figures
from domains.medical.readers import Volume
from domains.medical.resample import resample_image, resample_label, resampled_shape
from domains.medical.sources import read_outline
from domains.recipe import Recipe

INTENSITY = "1: (x - median) / ((p95 - p5) / 3.29) over the head, clipped to -8..8, int16 steps of 1/512"
CLIP = 8.0
NORMAL_5_TO_95 = 3.29
"""Distance between the 5th and 95th percentile of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class RawSubject:
    """One subject as read: canonical, checked, not yet normalised or resampled."""

    volume: Volume
    """All channels of the recipe; zeros where one is missing."""
    foreground: np.ndarray
    """(D, H, W) bool, where the head is in any channel."""
    facts: dict[str, Any]
    digest: str
    missing: tuple[int, ...] = ()
    """Which of the channels the subject lacks."""


@dataclass(frozen=True)
class RawLabel:
    """A label on its subject's native grid."""

    label: np.ndarray
    """(D, H, W) uint8 classes."""
    volume: Volume
    """The subject's geometry."""
    digest: str


def read(candidate: Candidate, recipe: Recipe) -> RawSubject:
    """The decoded and checked channels of a candidate, in the recipe's order, on the grid of the first.

    Raises:
        Refused: see `channels.read_channels`.
    """
    names: tuple[str, ...] = recipe.data.channels  # type: ignore[attr-defined]
    found, on_grid = read_channels(candidate, names)
    inside = np.logical_or.reduce([channel.inside for channel in on_grid.values()])
    first = on_grid[names[0]].volume
    known = all(channel.volume.spacing_known for channel in found.values())
    digests = [found[name].volume.digest if name in found else None for name in names]
    # nominal spacing is part of the geometry: stating it later must not find the entry that was written as real
    digest = hashlib.sha256(repr((digests, known)).encode()).hexdigest()
    absent = np.zeros_like(first.data)
    data = np.concatenate([on_grid[name].volume.data if name in found else absent for name in names])
    volume = Volume(data, first.affine, first.spacing_mm, known, digest)
    facts = {
        "shape": list(volume.data.shape[1:]),
        "spacing_mm": [round(s, 4) for s in volume.spacing_mm],
        "spacing_known": known,
        "foreground_share": round(float(inside.mean()), 4),
        "quality": {name: figures(channel.volume.data[0], channel.inside) for name, channel in found.items()},
    }
    if len(names) > 1:
        moved = [name for name in found if on_grid[name] is not found[name]]
        lacking = [name for name in names if name not in found]
        facts |= {"missing_channels": _listed(lacking), "resampled_channels": _listed(moved)}
    return RawSubject(volume, inside, facts, digest, tuple(i for i, name in enumerate(names) if name not in found))


def write(raw: RawSubject, contract: Contract, folder: Path) -> dict[str, Any]:
    """Writes a subject entry (see `entries.py`) and gives its facts.

    Raises:
        Refused: a channel has no contrast inside the head.
    """
    grid = stored_grid(raw.volume, contract)
    channels = enumerate(raw.volume.data)
    normalised = np.stack([c if i in raw.missing else normalise(c, raw.foreground) for i, c in channels])
    steps = np.round(resample_image(normalised, grid.stored_shape) * STEPS).astype(np.int16)
    inside = resample_label(raw.foreground, grid.stored_shape, 2)
    write_array(folder / "image.b2nd", steps, contract)
    write_array(folder / "foreground.b2nd", inside, contract)
    grid.save(folder)
    if raw.missing:
        present = [i not in raw.missing for i in range(len(normalised))]
        (folder / CHANNELS_FILE).write_text(json.dumps({"present": present}))
    return raw.facts | {"stored_shape": list(grid.stored_shape)}


def read_label(candidate: Candidate, raw: RawSubject, contract: Contract) -> RawLabel:
    """The candidate's label as classes 0..num_classes-1, on exactly its image's grid.

    Raises:
        Refused: it cannot be decoded, lies on another grid, holds values that are no class, or is empty where there is
            always something to outline.
    """
    volume, named = read_outline(candidate)
    refuse_other_grid(volume, raw.volume, what="label")
    values: Mapping[int, int] | None = candidate.notes.get("label_values") or named
    label = checked_label(volume.data[0], contract.num_classes, values)
    if not label.any() and not candidate.notes.get("may_be_empty", True):
        raise Refused("an empty mask, and what this recipe outlines is in every image: it is not finished")
    digest = hashlib.sha256(repr((label.shape, raw.digest)).encode() + label.tobytes()).hexdigest()
    return RawLabel(label, raw.volume, digest)


def write_label(raw: RawLabel, contract: Contract, folder: Path) -> dict[str, Any]:
    """Writes a label entry (see `entries.py`) and gives its facts: the share of each class, and boxes of slices."""
    grid = stored_grid(raw.volume, contract)
    stored = resample_label(raw.label, grid.stored_shape, contract.num_classes)
    write_array(folder / "label.b2nd", stored, contract)
    if grid.stored_shape != grid.native_shape:
        write_array(folder / "native.b2nd", raw.label, contract)
    grid.save(folder)
    counts = np.bincount(raw.label.ravel(), minlength=contract.num_classes)
    return {
        "class_fractions": [round(float(c) / raw.label.size, 7) for c in counts[1:]],
        "labelled_slices": int(raw.label.any(axis=(1, 2)).sum()),
    }


def normalise(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(D, H, W) -> float32, median 0 and robust deviation 1 over the head, clipped; the scanner's scale is gone."""
    low, median, high = np.percentile(image[inside].astype(np.float64), [5, 50, 95])
    if high <= low:
        raise Refused("no contrast inside the head")
    scaled = (image - median) * (NORMAL_5_TO_95 / (high - low))
    return np.clip(scaled, -CLIP, CLIP).astype(np.float32)


def stored_grid(volume: Volume, contract: Contract) -> Grid:
    """Both grids of a volume under the contract's spacing rule."""
    d, h, w = volume.data.shape[1:]
    shape = resampled_shape((d, h, w), volume.spacing_mm, contract.rules["spacing_mm"])
    spacing = [mm * old / new for mm, old, new in zip(volume.spacing_mm, (d, h, w), shape, strict=True)]
    return Grid(
        stored_shape=shape,
        stored_spacing_mm=(spacing[0], spacing[1], spacing[2]),
        native_shape=(d, h, w),
        native_spacing_mm=volume.spacing_mm,
        spacing_known=volume.spacing_known,
        axes="".join("RAS"[int(np.abs(volume.affine[:3, axis]).argmax())] for axis in range(3)),
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def write_array(path: Path, array: np.ndarray, contract: Contract) -> None:
    """A compressed array whose bytes depend on its values alone; chunks follow the crops of the contract."""
    chunks, blocks = chunking(array.shape, contract)
    # one thread: with more, blosc2 writes other bytes each time; LZ4 with 16^3 blocks reads 64^3 crops of noisy 256^3
    # int16 1.5-2 times faster than zstd and is a tenth of the volume larger (measured by bench_crops)
    cparams = {"codec": blosc2.Codec.LZ4, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
    packed = blosc2.asarray(np.ascontiguousarray(array), chunks=chunks, blocks=blocks, cparams=cparams, contiguous=True)
    # the same bytes as with `urlpath`, where blosc2 says of a full disk only that it could not create the array
    path.write_bytes(packed.to_cframe())


def chunking(shape: tuple[int, ...], contract: Contract) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Chunk and block shape: slices for 2D plans, small cubes for 3D."""
    lead, space = shape[:-3], shape[-3:]
    if len(contract.crop_shape) == 2:
        wanted, block = (8, 256, 256), (1, 128, 128)
    else:
        wanted, block = (128, 128, 128), (16, 16, 16)
    chunks = tuple(min(a, b) for a, b in zip(wanted, space, strict=True))
    blocks = tuple(min(a, b) for a, b in zip(block, chunks, strict=True))
    ones = (1,) * len(lead)
    return ones + chunks, ones + blocks
