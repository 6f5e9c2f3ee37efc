"""The pixels of a stack: decoded from any transfer syntax, freed of overlays, in the scanner's own scale."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

from domains.errors import Refused
from domains.medical.dicom.instance import BROKEN, read_whole
from domains.medical.dicom.stack import Slice, Stack, mosaic_wrapper


def values_of(stack: Stack, files: dict[Path, Dataset]) -> np.ndarray:
    """(columns, rows, slices) float32.

    Args:
        stack: of the series.
        files: its files as `read_image` has them; taken out as they are decoded, so that memory holds each once.

    Raises:
        Refused: pixels cannot be decoded, are colours, or have another size than the header says.
    """
    columns, rows, count = stack.space.shape
    if len(stack.slices) == 1 and count > 1:
        return _mosaic(stack.slices[0].path)
    found = np.empty((count, rows, columns), np.float32)
    for path, wanted in _by_file(stack).items():
        dataset = files.pop(path)
        pixels = decoded(dataset)
        for place, one in wanted:
            if one.frame >= len(pixels) or pixels.shape[1:] != (rows, columns):
                raise Refused(f"pixel data of another size than {columns} x {rows}")
            found[place] = _rescaled(pixels[one.frame], dataset, one.frame)
    return found.transpose(2, 1, 0)


def decoded(dataset: Dataset) -> np.ndarray:
    """(frames, rows, columns) of a grey image, numbers as stored.

    Raises:
        Refused: there is no pixel data, it is colour, damaged, or of a transfer syntax that nothing here decodes.
    """
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or "PALETTE" in str(dataset.get("PhotometricInterpretation")):
        raise Refused("a colour image")
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Refused("no pixel data")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = np.asarray(dataset.pixel_array)
    except BROKEN as error:
        raise Refused(f"pixel data that cannot be decoded ({type(error).__name__})") from None
    pixels = _without_overlays(pixels, dataset)
    return pixels if pixels.ndim == 3 else pixels[None]


def _without_overlays(pixels: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Bits above the stored ones may hold a drawing, names included: they are cut off."""
    stored = int(dataset.get("BitsStored") or 0)
    if pixels.dtype.kind not in "iu" or not 0 < stored < 8 * pixels.dtype.itemsize:
        return pixels
    shift = 8 * pixels.dtype.itemsize - stored
    cut: np.ndarray = (pixels << shift) >> shift  # arithmetic for signed numbers: the sign comes back
    return cut


def _rescaled(pixels: np.ndarray, dataset: Dataset, frame: int) -> np.ndarray:
    source = dataset
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        groups = dataset.get(name)
        if groups:
            transform = groups[frame if name.startswith("Per") else 0].get("PixelValueTransformationSequence")
            source = transform[0] if transform else source
    try:
        return np.asarray(apply_modality_lut(pixels, source), dtype=np.float32)
    except BROKEN as error:
        raise Refused(f"its rescale or modality table cannot be applied ({type(error).__name__})") from None


def _mosaic(path: Path) -> np.ndarray:
    dataset = read_whole(path)
    decoded(dataset)
    tiles = np.asarray(mosaic_wrapper(dataset).get_data(), dtype=np.float32)
    return tiles.transpose(1, 0, 2)


def _by_file(stack: Stack) -> dict[Path, list[tuple[int, Slice]]]:
    found: dict[Path, list[tuple[int, Slice]]] = {}
    for place, one in enumerate(stack.slices):
        found.setdefault(one.path, []).append((place, one))
    return found
