"""Frames and masks from image files: size from the header, pixels upright, damage refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from domains.errors import Refused

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE_FORMATS = ("PNG", "JPEG")
MOST_PIXELS = 4096 * 4096
"""Of a frame; beyond that nothing is decoded."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    seconds: float
    """Its timestamp in the source; the origin is the source's own."""


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) in pixels as shown, from the header alone.

    Raises:
        Refused: not a PNG or JPEG file.
    """
    with _opened_image(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def image_frames(paths: Sequence[Path], seconds: Sequence[float]) -> Iterator[Frame]:
    """One frame a file.

    Raises:
        Refused: a file cannot be decoded.
    """
    for path, second in zip(paths, seconds, strict=True):
        with _opened_image(path) as image:
            try:
                rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise Refused(f"damaged image data ({type(error).__name__})") from None
        yield Frame(rgb, second)


def read_ids(path: Path) -> np.ndarray:
    """(H, W) uint8 values of a mask: grey levels, or the indices of a palette.

    Raises:
        Refused: not a mask.
    """
    with _opened_image(path) as image:
        if image.mode not in ("L", "P", "1"):
            raise Refused(f"a mask of mode {image.mode}; class numbers in one channel of 8 bits are needed")
        try:
            return np.asarray(image).astype(np.uint8)
        except (OSError, SyntaxError, ValueError) as error:
            raise Refused(f"damaged image data ({type(error).__name__})") from None


def _opened_image(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=IMAGE_FORMATS)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise Refused(f"not a PNG or JPEG file that can be read ({type(error).__name__})") from None
    if image.width * image.height > MOST_PIXELS:
        raise Refused(f"absurd size of {image.width} x {image.height} pixels")
    return image
