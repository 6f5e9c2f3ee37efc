"""Photographs in: `<batch>/<piece>.png` with `<piece>.mask.png` beside it -> checked, normalised pieces -> crops.

An entry holds `image.npy` (1, H, W) float16, a label entry `label.npy` (H, W) uint8, 1 where there is a defect.
Nothing is resampled, so the grid of the store is the grid of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from domains.domain import Candidate, Scan
from domains.errors import Refused, UsageError
from domains.head import Prediction
from domains.manifest import Contract, Subject
from domains.recipe import Recipe
from ssl_models.protocols import Batch
from surfaces.recipes import settings

VERSION = 1
"""Bumped by hand when what `write` writes changes."""
MASK = ".mask.png"
SMALLEST = 32
"""Pixels along the shorter side of a photograph."""
COARSEST = 8
"""Stride of the encoder's last stage."""


@dataclass(frozen=True)
class Piece:
    """A decoded photograph or mask."""

    pixels: np.ndarray
    """(H, W) float32 grey levels, or bool defects."""
    digest: str


def scan(source: Path, recipe: Recipe) -> Scan:
    """Every photograph below the folder; its own folder is the production batch."""
    if not source.is_dir():
        raise UsageError(f"no folder at {source}")
    about = source / "dataset.yaml"
    stated = (yaml.safe_load(about.read_text()) or {}) if about.is_file() else {}
    candidates = list(_candidates(source))
    taken = {path for c in candidates for path in (*c.images.values(), c.label)}
    rest = sorted(path for path in source.rglob("*") if path.is_file() and path not in taken)
    return Scan(
        layout="one folder per production batch, <piece>.png with <piece>.mask.png beside it",
        namespace=str(stated.get("namespace") or hashlib.sha256(source.name.encode()).hexdigest()[:12]),
        candidates=candidates,
        ignored={path: "describes the dataset" if path == about else "not a photograph" for path in rest},
        statement=str(stated.get("licence", "not stated")),
    )


def open_inputs(path: Path, recipe: Recipe) -> list[Candidate]:
    """One photograph."""
    return [Candidate(name=f"{path.parent.name}/{path.stem}", group=path.parent.name, images={"grey": path})]


def _candidates(folder: Path) -> Iterator[Candidate]:
    for image in sorted(folder.rglob("*.png")):
        if not image.name.endswith(MASK):
            mask, batch = image.with_name(image.stem + MASK), image.parent.name
            label = mask if mask.is_file() else None
            yield Candidate(name=f"{batch}/{image.stem}", group=batch, images={"grey": image}, label=label)


def inspect(candidate: Candidate) -> dict[str, Any]:
    """Shape of the photograph, (H, W) in pixels, from its header."""
    with _opened(candidate.images["grey"]) as image:
        return {"shape": (image.height, image.width)}


def plan(inspections: Sequence[dict[str, Any]], recipe: Recipe) -> Contract:
    """Square crops that fit into the smallest photograph that is large enough to be taken."""
    sides = [min(found["shape"]) for found in inspections]
    side = min([settings(recipe).max_crop, *(side for side in sides if side >= SMALLEST)]) // COARSEST * COARSEST
    return Contract(
        domain="surfaces",
        version=VERSION,
        in_channels=1,
        num_classes=2,
        crop_shape=(side, side),
        pooling=((1, 1), (2, 2), (2, 2), (2, 2)),
        patch_shape=(COARSEST, COARSEST),
        rules={"channels": ["grey"], "intensity": "piece: median 0, robust deviation 1, clipped at 8"},
    )


def read(candidate: Candidate, recipe: Recipe) -> Piece:
    """The photograph as (H, W) float32 grey levels."""
    pixels = _pixels(candidate.images["grey"]).astype(np.float32)
    if min(pixels.shape) < SMALLEST:
        raise Refused(f"{pixels.shape[0]} x {pixels.shape[1]} pixels; at least {SMALLEST} are needed")
    if pixels.min() == pixels.max():
        raise Refused("every pixel is equal: not a photograph")
    return Piece(pixels, _digest(pixels))


def write(piece: Piece, contract: Contract, folder: Path) -> dict[str, Any]:
    """Normalised image into an entry; returns shape and grey levels for the data quality sheet."""
    middle = np.median(piece.pixels)
    deviation = 1.4826 * np.median(np.abs(piece.pixels - middle)) or piece.pixels.std()
    normalised = np.clip((piece.pixels - middle) / deviation, -8, 8)
    np.save(folder / "image.npy", normalised[None].astype(np.float16))
    return {"shape": list(piece.pixels.shape), "grey_median": float(middle), "grey_deviation": float(deviation)}


def read_label(candidate: Candidate, piece: Piece, contract: Contract) -> Piece:
    """The mask, checked against its photograph."""
    assert candidate.label is not None
    levels = _pixels(candidate.label)
    if levels.shape != piece.pixels.shape:
        raise Refused(f"mask of {levels.shape} pixels for a photograph of {piece.pixels.shape}")
    if not set(np.unique(levels)) <= {0, 255}:
        raise Refused("mask with values other than 0 and 255")
    return Piece(levels > 0, _digest(levels))


def write_label(label: Piece, contract: Contract, folder: Path) -> dict[str, Any]:
    """Mask into an entry; returns the share of defective pixels."""
    np.save(folder / "label.npy", label.pixels.astype(np.uint8))
    return {"defect_fraction": float(label.pixels.mean())}


def write_prediction(candidate: Candidate, prediction: Prediction, contract: Contract, folder: Path) -> list[Path]:
    """`<batch>/<piece>.mask.png`, pixel on pixel with the photograph."""
    path = folder / f"{candidate.name}{MASK}"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((prediction.argmax(0) > 0).astype(np.uint8) * 255).save(path)
    return [path]


class SurfaceCrops:
    """Random square crops of a fixed list of pieces, flipped when `augment`."""

    def __init__(
        self,
        entries: Sequence[Path],
        labels: Sequence[Path] | None,
        subjects: Sequence[Subject],
        contract: Contract,
        recipe: Recipe,
        augment: bool,
    ) -> None:
        self._images = [np.load(entry / "image.npy", mmap_mode="r") for entry in entries]
        self._labels = None if labels is None else [np.load(entry / "label.npy", mmap_mode="r") for entry in labels]
        self._groups = [subject.group_id for subject in subjects]
        self._side = contract.crop_shape[0]
        self._defect_share = settings(recipe).defect_crop_share
        self._augment = augment

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, subjects: Sequence[int], seeds: Sequence[int], crops: int = 1) -> Batch:
        """Crops of each piece, their places and flips drawn from its seed alone."""
        cut = [
            self._cut(subject, np.random.default_rng([seed, one] if one else seed))
            for subject, seed in zip(subjects, seeds, strict=True) for one in range(crops)
        ]  # fmt: skip
        images = torch.stack([torch.from_numpy(image.astype(np.float32)) for image, _ in cut]).unflatten(0, (-1, crops))
        targets = torch.stack([torch.from_numpy(label.astype(np.int64)) for _, label in cut])[:, None]
        return Batch(
            crops=images,
            sample_seed=torch.tensor(list(seeds), dtype=torch.int64),
            group_id=tuple(self._groups[subject] for subject in subjects),
            foreground=torch.ones_like(images, dtype=torch.bool),
            targets=None if self._labels is None else targets,
        )

    def _cut(self, subject: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image = self._images[subject]
        label = np.zeros(image.shape[1:], np.uint8) if self._labels is None else self._labels[subject]
        room = np.array(label.shape) - self._side
        corner = rng.integers(room + 1)
        defects = np.argwhere(label)
        if len(defects) and rng.random() < self._defect_share:
            corner = np.clip(defects[rng.integers(len(defects))] - self._side // 2, 0, room)
        rows, columns = (slice(start, start + self._side) for start in corner)
        turns, flip = (int(rng.integers(4)), bool(rng.integers(2))) if self._augment else (0, False)

        def turned(array: np.ndarray) -> np.ndarray:
            array = np.rot90(array, turns, axes=(-2, -1))
            return np.ascontiguousarray(array[..., ::-1] if flip else array)

        return turned(image[:, rows, columns]), turned(label[rows, columns])


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=["PNG"])
    except (OSError, Image.DecompressionBombError) as error:
        raise Refused(f"not a PNG file that can be read ({type(error).__name__})") from None


def _pixels(path: Path) -> np.ndarray:
    """(H, W) uint8 or uint16."""
    with _opened(path) as image:
        if image.mode not in ("L", "I;16"):
            raise Refused(f"image mode {image.mode}; greyscale of 8 or 16 bits is needed")
        try:
            return np.asarray(image)
        except (OSError, SyntaxError) as error:
            raise Refused(f"damaged PNG data ({type(error).__name__})") from None


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels, "<f4").tobytes()).hexdigest()
