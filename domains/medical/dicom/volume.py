"""The files of a DICOM series, as a volume's space and values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from domains.medical.dicom.instance import read_image, read_instance
from domains.medical.dicom.pixels import values_of
from domains.medical.dicom.stack import stack_of
from domains.medical.space import Space


def read_space(paths: Sequence[Path]) -> Space:
    """Where the voxels lie, from the headers.

    Raises:
        Refused: they make no volume.
    """
    return stack_of([read_instance(path) for path in paths]).space


def read_values(paths: Sequence[Path]) -> tuple[Space, np.ndarray]:
    """Space and (columns, rows, slices) float32.

    Raises:
        Refused: they make no volume, or pixels cannot be decoded.
    """
    instances = [read_image(path) for path in paths]
    stack = stack_of(instances)
    return stack.space, values_of(stack, {one.path: one.header for one in instances})
