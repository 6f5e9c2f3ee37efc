"""Label values against the classes of a recipe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from domains.errors import Refused


def checked_label(label: np.ndarray, num_classes: int, values: Mapping[int, int] | None = None) -> np.ndarray:
    """(D, H, W) uint8 file values -> uint8 classes 0..num_classes-1.

    Without `values` a file value is its class; with two classes any single other value (0/255 masks) is class 1.

    Args:
        label: values as in the file.
        num_classes: background included.
        values: file value -> class, from dataset.yaml; 0 is background unless it says otherwise.

    Raises:
        Refused: a value that is no class.
    """
    found = [int(v) for v in np.unique(label)]
    if values is not None:
        table = {0: 0, **values}
    elif num_classes == 2 and len([v for v in found if v != 0]) == 1:
        table = {0: 0, max(found): 1}
    else:
        table = {c: c for c in range(num_classes)}
    unknown = [v for v in found if v not in table]
    if unknown:
        raise Refused(f"label values {unknown[:5]} are no class (known: {sorted(table)})")
    lookup = np.zeros(256, dtype=np.uint8)
    for value, label_class in table.items():
        lookup[value] = label_class
    result: np.ndarray = lookup[label]
    return result
