"""Slices in their place: the files of a series, in any order, as one volume on a regular grid."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from domains.errors import Refused
from domains.medical.dicom.instance import BROKEN, Instance, read_whole
from domains.medical.space import Space

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's patient axes (left, posterior, superior)."""
UNEVEN = 0.1
"""Share of the slice distance that a slice may lie beside its place."""
MISSING = 1.5
"""A distance this many times the usual one has a hole in it."""
SAME_PLACE_MM = 0.05


class SeveralDirections(Refused):
    """Slices that are no stack: what a localizer is."""


@dataclass(frozen=True)
class Slice:
    """One slice: a file, or a frame of one. DICOM patient axes, mm."""

    path: Path
    frame: int
    position: np.ndarray
    """(3,) centre of the first pixel."""
    directions: np.ndarray
    """(2, 3) unit vectors along a row (columns grow) and along a column (rows grow)."""
    spacing: tuple[float, float] | None
    """Between rows and between columns; None where the file does not say."""
    order: tuple[float, ...]
    """What tells repetitions at one place apart, first taken first: time, echo, instance number."""


@dataclass(frozen=True)
class Stack:
    """A volume before its pixels are read. Axes (column, row, slice)."""

    space: Space
    slices: tuple[Slice, ...]
    """Along the third axis; a mosaic is one."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files in the order of their first slice."""
        return tuple(dict.fromkeys(one.path for one in self.slices))


def is_mosaic(instance: Instance) -> bool:
    """Whether a file holds a whole volume as tiles of one picture, as Siemens wrote it."""
    return "MOSAIC" in instance.image_type


def stack_of(instances: Sequence[Instance]) -> Stack:
    """The first volume of a series (in time, echo, b value), its slices ordered by where they lie.

    Raises:
        Refused: no positions, several directions, missing or uneven slices.
    """
    if is_mosaic(instances[0]):
        first = min(instances, key=_order)
        return Stack(*_mosaic(first))
    slices = [one for instance in instances for one in slices_of(instance)]
    if not np.allclose(slices[0].directions, [one.directions for one in slices], atol=2e-3):
        raise SeveralDirections("slices in several directions: a localizer, not one volume")
    normal = np.cross(*slices[0].directions)
    slices = _first_at_each_place(slices, normal)
    rows, columns = instances[0].size
    return Stack(_space(slices, normal, rows, columns, instances[0].number("SliceThickness")), tuple(slices))


def slices_of(instance: Instance) -> list[Slice]:
    """The slices of one file: itself, or its frames, each with its own place.

    Raises:
        Refused: it does not say where they lie.
    """
    header = instance.header
    frames: Iterable[Dataset] = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    try:
        if frames:
            return [_slice(instance, number, _flat(shared, frame)) for number, frame in enumerate(frames)]
        if int(instance.number("NumberOfFrames") or 1) > 1:
            raise Refused("several frames that do not say where they lie")
        return [_slice(instance, 0, header)]
    except BROKEN as error:
        raise Refused(f"no usable position, orientation or spacing ({type(error).__name__})") from None


def _flat(shared: Dataset, frame: Dataset) -> Dataset:
    """What the functional groups of a frame say about its plane, as a classic header has it."""
    found = Dataset()
    for groups in (shared, frame):
        for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            if groups.get(name):
                found.update(groups[name].value[0])
    return found


def _slice(instance: Instance, frame: int, plane: Any) -> Slice:
    if "ImagePositionPatient" not in plane or "ImageOrientationPatient" not in plane:
        raise Refused("it does not say where it lies (no position or orientation)")
    position = np.array([float(v) for v in plane.ImagePositionPatient]).reshape(3)
    directions = np.array([float(v) for v in plane.ImageOrientationPatient]).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if not (
        np.isfinite(position).all() and np.allclose(lengths, 1, atol=0.01) and abs(directions.prod(0).sum()) < 0.01
    ):
        raise Refused("position or orientation that cannot be")
    spacing = plane.get("PixelSpacing")
    if spacing is not None:
        spacing = (float(spacing[0]), float(spacing[1]))
        if not (np.isfinite(spacing).all() and min(spacing) > 0):
            raise Refused("pixel spacing that cannot be")
    return Slice(instance.path, frame, position, directions, spacing, (*_order(instance), frame))


def _order(instance: Instance) -> tuple[float, ...]:
    names = ("TemporalPositionIdentifier", "EchoNumbers", "EchoTime", "DiffusionBValue", "AcquisitionNumber",
             "InstanceNumber")  # fmt: skip
    return tuple(instance.number(name) or 0.0 for name in names)


def _first_at_each_place(slices: Sequence[Slice], normal: np.ndarray) -> list[Slice]:
    places: list[list[Slice]] = []
    for one in sorted(slices, key=lambda one: float(one.position @ normal)):
        if places and float((one.position - places[-1][0].position) @ normal) < SAME_PLACE_MM:
            places[-1].append(one)
        else:
            places.append([one])
    kept = [min(place, key=lambda one: one.order) for place in places]
    if len({one.order[:2] for one in kept}) > 1:
        raise Refused("slices missing: no repetition of this series has one at every place")
    return kept


def _space(
    slices: Sequence[Slice], normal: np.ndarray, rows: int, columns: int, thickness: float | None
) -> Space:  # fmt: skip
    first, count = slices[0], len(slices)
    positions = np.stack([one.position for one in slices])
    if count > 1:
        steps = np.diff(positions @ normal)
        usual = float(np.median(steps))
        if steps.max() > MISSING * usual:
            holes = int((steps > MISSING * usual).sum())
            raise Refused(
                f"slices missing: {holes} of {count - 1} distances are larger than {MISSING} times {usual:.2f} mm"
            )
        step = (positions[-1] - positions[0]) / (count - 1)
        beside = np.linalg.norm(positions - (positions[0] + np.arange(count)[:, None] * step), axis=1).max()
        if beside > UNEVEN * usual + SAME_PLACE_MM:
            raise Refused(f"slices unevenly spaced: one lies {beside:.2f} mm beside its place")
    else:
        step = normal * (thickness or 1.0)
    known = first.spacing is not None
    between_rows, between_columns = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * between_columns
    affine[:3, 1] = first.directions[1] * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    lengths = (between_columns, between_rows, float(np.linalg.norm(step)))
    return Space((columns, rows, count), TO_RAS @ affine, lengths, known)


def _mosaic(instance: Instance) -> tuple[Space, tuple[Slice, ...]]:
    wrapper = mosaic_wrapper(read_whole(instance.path))
    columns_rows_slices = wrapper.image_shape
    affine = TO_RAS @ np.asarray(wrapper.affine, dtype=np.float64)
    # nibabel's first axis runs along a column, ours along a row
    affine = affine[:, [1, 0, 2, 3]]
    rows, columns, count = (int(n) for n in columns_rows_slices)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    space = Space((columns, rows, count), affine, (float(lengths[0]), float(lengths[1]), float(lengths[2])), True)
    place = Slice(instance.path, 0, np.zeros(3), np.zeros((2, 3)), None, ())
    return space, (place,)


def mosaic_wrapper(dataset: Dataset) -> Any:
    """nibabel's reading of a mosaic: tiles and affine from the scanner's private header.

    Raises:
        Refused: that header is missing or damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # on import it calls itself experimental, "only for Siemens time series": so here
        from nibabel.nicom import dicomwrappers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapper = dicomwrappers.wrapper_from_data(dataset)
            if not isinstance(wrapper, dicomwrappers.MosaicWrapper) or wrapper.affine is None:
                raise Refused("a mosaic whose private header does not say how it is laid out")
    except (*BROKEN, dicomwrappers.WrapperError) as error:
        raise Refused(f"a mosaic whose private header cannot be read ({type(error).__name__})") from None
    return wrapper
