"""A DICOM SEG that a reader drew or corrected, as a label on the grid of its series.

By where its frames lie, not by what they refer to: viewers write references differently, places alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from domains.errors import Refused
from domains.medical.dicom.instance import BROKEN, Instance, read_whole
from domains.medical.dicom.pixels import decoded
from domains.medical.dicom.stack import TO_RAS, Slice, slices_of
from domains.medical.space import Space, described

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
"""SOP class."""
BESIDE = 0.25
"""Voxels that a frame may lie beside its slice."""


def series_of(path: Path) -> tuple[str, ...]:
    """Series that a SEG says it belongs to, of its references.

    Raises:
        Refused: it cannot be read.
    """
    references = read_whole(path).get("ReferencedSeriesSequence") or ()
    return tuple(str(one.get("SeriesInstanceUID", "")) for one in references)


def read_seg(path: Path, space: Space) -> np.ndarray:
    """(columns, rows, slices) uint8 segment numbers, 0 where there is none; a fraction counts from a half on.

    Args:
        path: of the SEG.
        space: of the series it belongs to.

    Raises:
        Refused: it cannot be decoded, lies on another grid, or its segments overlap.
    """
    dataset = read_whole(path)
    try:
        frames = slices_of(Instance(path, dataset))
        numbers = [_segment_of(dataset, one.frame) for one in frames]
        fraction = float(dataset.get("MaximumFractionalValue") or 1) / 2
    except (*BROKEN, StopIteration) as error:
        raise Refused(f"a SEG whose frames cannot be told apart ({type(error).__name__})") from None
    pixels = decoded(dataset)
    columns, rows, _ = space.shape
    if pixels.shape[1:] != (rows, columns) or len(pixels) != len(frames):
        raise Refused(f"label of {pixels.shape[2]} x {pixels.shape[1]} pixels, its image has {columns} x {rows}")
    label = np.zeros(space.shape, np.uint8)
    for frame, number in zip(frames, numbers, strict=True):
        drawn = pixels[frame.frame].T
        inside = drawn >= fraction
        plane = label[:, :, _slice_at(frame, space)]
        if not np.isin(plane[inside], (0, number)).all():
            raise Refused("two segments overlap")
        plane[inside] = number
    return label


def segment_classes(path: Path, names: Sequence[str]) -> dict[int, int] | None:
    """Segment number -> class of the recipe, by the segments' labels; None unless every one has the name of a class.

    Raises:
        Refused: it cannot be read.
    """
    known = {name.casefold(): k for k, name in enumerate(names, 1)}
    segments = read_whole(path).get("SegmentSequence") or ()
    found = {int(s.SegmentNumber): known.get(str(s.get("SegmentLabel", "")).strip().casefold(), 0) for s in segments}
    return found if found and all(found.values()) else None


def _segment_of(dataset: Dataset, frame: int) -> int:
    groups = (dataset.PerFrameFunctionalGroupsSequence[frame], dataset.SharedFunctionalGroupsSequence[0])
    named = next(g.SegmentIdentificationSequence[0] for g in groups if "SegmentIdentificationSequence" in g)
    return int(named.ReferencedSegmentNumber)


def _slice_at(frame: Slice, space: Space) -> int:
    """Which slice of the space a frame is."""
    into = np.linalg.inv(space.affine) @ TO_RAS
    place = (into @ np.array([*frame.position, 1.0]))[:3]
    between_rows, between_columns = frame.spacing or (0.0, 0.0)
    along = into[:3, :3] @ np.stack([frame.directions[0] * between_columns, frame.directions[1] * between_rows], 1)
    beside = max(abs(place[0]), abs(place[1]), abs(place[2] - round(place[2])))
    same = np.abs(along - np.eye(3)[:, :2]).max() * max(space.shape[:2]) < 2 * BESIDE
    if beside > BESIDE or not same or not 0 <= round(place[2]) < space.shape[2]:
        begins = " ".join(f"{v:.4g}" for v in (TO_RAS @ [*frame.position, 1.0])[:3])
        raise Refused(
            f"label lies on another grid than its image: a frame begins at ({begins}) with pixels of "
            f"{between_rows:.4g} x {between_columns:.4g} mm, its image has {described(space.shape, space.affine)}"
        )
    return round(place[2])
