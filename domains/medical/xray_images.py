"""X-ray images from files to the store: decoded, checked, brought to one size and one scale of brightness.

In the store an X-ray is a volume of one slice in the canonical direction of the others: rows grow upwards (S), columns
to the patient's right (R), which lies on the left of the picture as it hangs on the light box. So crops, panels and
entries need no second code.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from domains.domain import Candidate
from domains.errors import Refused
from domains.manifest import Contract
from domains.medical.dicom.instance import looks_like_dicom
from domains.medical.entries import STEPS, Grid
from domains.medical.plan import VERSION, pooling_and_crop
from domains.medical.preprocess import CLIP, write_array
from domains.medical.xray_dicom import read_dicom_pixels, size_of
from domains.recipe import Recipe

KIND = "xray"
AXES = "ASR"
"""Letters of the axes (D, H, W) of a frontal X-ray; there is one slice."""
INTENSITY = "1: cut at the 1st and 99th percentile of the image, then mean 0 and deviation 1, int16 steps of 1/512"
SMALLEST = 64
"""Pixels of the shorter side."""
MOST_PIXELS = 100_000_000
LONGEST_RATIO = 2.0
"""Of the longer to the shorter side: two windows still see all of such an image."""
COLOUR = (4.0, 0.02)
"""An image is a colour image when channels are further apart than 4 of 256 (JPEG does less) in 2 % of its pixels."""
PICTURES = (".png", ".jpg", ".jpeg")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, KeyError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises on files that are no images."""


@dataclass(frozen=True)
class RawImage:
    """One X-ray as read: grey, upright as it is looked at."""

    pixels: np.ndarray
    """(H, W) float32, the file's own grey values."""
    facts: dict[str, Any]
    digest: str
    stated: dict[str, Any]
    """Sex, age band and view, as the table says."""


def inspect(candidate: Candidate) -> dict[str, Any]:
    """Shape of a candidate's image, from its header.

    Raises:
        Refused: the header cannot be used.
    """
    path = next(iter(candidate.images.values()))
    width, height = _opened(path).size if _is_picture(path) else size_of(path)
    check_size((width, height))
    return {"shape": [height, width]}


def plan(inspections: Sequence[Mapping[str, Any]], recipe: Recipe) -> Contract:
    """The contract: square crops whose side is `data.max_crop`, which is also the shorter side of a stored image."""
    data: Any = recipe.data
    side = np.full(2, data.max_crop)
    pooling, crop = pooling_and_crop(side, np.ones(2), data.max_crop)
    rules = {
        "kind": KIND, "axes": AXES, "channels": list(data.channels), "neighbours": 0, "intensity": INTENSITY,
        "shorter_side": crop[0],
    }  # fmt: skip
    return Contract(
        domain="medical", version=VERSION, in_channels=1, num_classes=len(data.label_classes), crop_shape=crop,
        pooling=pooling, patch_shape=(8, 8), rules=rules,
    )  # fmt: skip


def read(candidate: Candidate, recipe: Recipe) -> RawImage:
    """The decoded and checked image of a candidate. Of the file nothing but the pixels is kept.

    Raises:
        Refused: it cannot be decoded, has real colour, is too small, too long, constant or without contrast.
    """
    pixels, bits = read_pixels(next(iter(candidate.images.values())))
    low, high = np.percentile(pixels, [1, 99])
    if pixels.min() == pixels.max():
        raise Refused(f"constant: every pixel is {pixels.flat[0]:g}")
    if low == high:
        raise Refused("no contrast: 98 % of the pixels have one value")
    facts = {
        "shape": list(pixels.shape),
        "bits": bits,
        "darkest_share": round(float((pixels == pixels.min()).mean()), 4),
        "brightest_share": round(float((pixels == pixels.max()).mean()), 4),
    }
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.astype("<u2").tobytes()).hexdigest()
    stated: dict[str, Any] = dict(candidate.notes.get("facts") or {"sex": None, "age_band": None, "view": None})
    return RawImage(pixels, facts | stated, digest, stated)


def write(raw: RawImage, contract: Contract, folder: Path) -> dict[str, Any]:
    """Writes a subject entry (see `entries.py`) of one slice, with `stated.json` beside it; gives its facts."""
    image = normalise(resized(raw.pixels, contract.rules["shorter_side"]))
    height, width = image.shape
    stored = np.round(image[::-1, ::-1] * STEPS).astype(np.int16)
    write_array(folder / "image.b2nd", stored[None, None], contract)
    write_array(folder / "foreground.b2nd", np.ones((1, height, width), np.uint8), contract)
    native = (1, *raw.pixels.shape)
    Grid(
        stored_shape=(1, height, width), stored_spacing_mm=(1.0, 1.0, 1.0), native_shape=native,
        native_spacing_mm=(1.0, 1.0, 1.0), spacing_known=False, axes=AXES,
    ).save(folder)  # fmt: skip
    (folder / "stated.json").write_text(json.dumps(raw.stated, sort_keys=True))
    return raw.facts | {"stored_shape": [height, width]}


def read_pixels(path: Path) -> tuple[np.ndarray, int]:
    """(H, W) float32 grey values of an image file, upright, and its bits per pixel.

    Raises:
        Refused: it cannot be decoded, has real colour, or is too small or too long.
    """
    if not _is_picture(path):
        check_size(size_of(path))
        return read_dicom_pixels(path)
    image = _opened(path)
    check_size(image.size)
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode in ("P", "PA", "CMYK", "YCbCr"):
            image = image.convert("RGB")
        values = np.asarray(image)
    except BROKEN:
        raise Refused("cannot be decoded: the image is truncated or damaged") from None
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        if values.min() < 0 or values.max() > 65535:
            raise Refused("grey values outside 16 bit")
        return values.astype(np.float32), 16
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        raise Refused(f"pixels of kind {image.mode} are no grey values of 8 or 16 bit")
    if values.ndim == 2:
        return values.astype(np.float32), 8
    channels = values[..., : 1 if image.mode == "LA" else 3].astype(np.float32)
    apart = channels.max(-1) - channels.min(-1)
    if (apart > COLOUR[0]).mean() > COLOUR[1]:
        raise Refused(f"a colour image: {(apart > COLOUR[0]).mean():.0%} of its pixels are not grey")
    # equal channels give the very value of a grey file; the rounded mean of others keeps it a whole number
    return np.round(channels.mean(-1)), 8


def check_size(size: tuple[int, int]) -> None:
    """Raises Refused when width and height alone rule an image out."""
    short, long = sorted(size)
    if short < SMALLEST:
        raise Refused(f"too small: {size[0]} x {size[1]} pixels (at least {SMALLEST} on the shorter side)")
    if short * long > MOST_PIXELS:
        raise Refused(f"too large: {size[0]} x {size[1]} pixels (at most {MOST_PIXELS // 1_000_000} million)")
    if long > LONGEST_RATIO * short:
        raise Refused(f"too long: {size[0]} x {size[1]} pixels (sides of at most 2 : 1)")


def resized(pixels: np.ndarray, shorter: int) -> np.ndarray:
    """(H, W) -> float32 whose shorter side is `shorter`, the aspect kept; each pixel the weighted mean of its area."""
    scale = shorter / min(pixels.shape)
    height, width = (max(shorter, round(length * scale)) for length in pixels.shape)
    image = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def normalise(image: np.ndarray) -> np.ndarray:
    """(H, W) -> float32 with mean 0 and deviation 1, after the brightest and darkest hundredth (letters, edges) is cut.

    Raises:
        Refused: nothing is left to see.
    """
    low, high = np.percentile(image, [1, 99])
    if low == high:
        raise Refused("no contrast: 98 % of the pixels have one value")
    cut = np.clip(image, low, high)
    return np.clip((cut - cut.mean()) / cut.std(), -CLIP, CLIP).astype(np.float32)


def _is_picture(path: Path) -> bool:
    """A file with the mark of DICOM is none, whatever its name; what is neither is left to Pillow to refuse."""
    return path.name.lower().endswith(PICTURES) or not looks_like_dicom(path)


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(io.BytesIO(path.read_bytes()), formats=("PNG", "JPEG"))
    except BROKEN:
        raise Refused("cannot be decoded: neither a PNG nor a JPEG image") from None
