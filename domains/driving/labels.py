"""Masks of class numbers as classes on the pixels of their frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from domains.driving.classes import VOID
from domains.driving.readers import read_ids
from domains.errors import Refused


def frame_label(
    path: Path, shape: tuple[int, int], num_classes: int, values: Mapping[int, int] | None = None
) -> np.ndarray:
    """(H, W) uint8 classes 0..num_classes-1, 255 where nothing is labelled.

    Args:
        path: of the mask.
        shape: (H, W) of its frame.
        num_classes: of the head.
        values: file value -> class; the others are void. Without it a value is its class, and 255 and the first value
            after the classes are void.

    Raises:
        Refused: not a mask, of another size, or with a value that is no class.
    """
    ids = read_ids(path)
    if ids.shape != shape:
        sizes = [" x ".join(map(str, size)) for size in (ids.shape, shape)]
        raise Refused(f"mask of {sizes[0]} pixels for a frame of {sizes[1]}")
    table = np.full(256, VOID, np.uint8)
    if values is None:
        unknown = [int(v) for v in np.unique(ids) if num_classes < v < VOID]
        if unknown:
            raise Refused(
                f"mask values {unknown[:5]} are no class (known: 0..{num_classes - 1}, void {num_classes}, 255)"
            )
        values = {value: value for value in range(num_classes)}
    for value, label_class in values.items():
        table[value] = label_class
    label: np.ndarray = table[ids]
    return label
