"""A channel of a candidate, whatever it is kept in: one NIfTI file or the slices of a DICOM series."""

from __future__ import annotations

from pathlib import Path

from domains.domain import Candidate
from domains.medical.dicom.seg_in import read_seg, segment_classes
from domains.medical.dicom.volume import read_space as dicom_space
from domains.medical.dicom.volume import read_values
from domains.medical.header import SUFFIXES, read_header
from domains.medical.readers import Volume, read_volume, volume_of
from domains.medical.space import Space


def files_of(candidate: Candidate, channel: str) -> list[Path]:
    """The channel's file, or its slices in order (named channel/0000 and so on); none where it is missing."""
    return [path for name, path in candidate.images.items() if name.partition("/")[0] == channel]


def is_nifti(path: Path) -> bool:
    """By suffix."""
    return path.name.lower().endswith(SUFFIXES)


def space_of(candidate: Candidate, channel: str) -> Space:
    """From headers alone.

    Raises:
        Refused: a header cannot be used, or slices make no volume.
    """
    files = files_of(candidate, channel)
    return read_header(files[0]) if is_nifti(files[0]) else dicom_space(files)


def read_channel(candidate: Candidate, channel: str) -> Volume:
    """(1, D, H, W), canonical; its spacing is known unless the file or dataset.yaml denies it.

    Raises:
        Refused: as `space_of`, or voxels cannot be read.
    """
    files = files_of(candidate, channel)
    nominal = candidate.notes.get("spacing") == "nominal"
    if is_nifti(files[0]):
        return read_volume(files[0], nominal=nominal)
    space, values = read_values(files)
    return volume_of(values, space, nominal=nominal)


def read_outline(candidate: Candidate) -> tuple[Volume, dict[int, int] | None]:
    """The candidate's label as in its file, and value -> class where the file names its classes (a SEG may).

    Raises:
        Refused: it cannot be decoded, or is a SEG on another grid than its image.
    """
    assert candidate.label is not None
    if is_nifti(candidate.label):
        return read_volume(candidate.label, integers=True), None
    space = space_of(candidate, next(iter(candidate.images)).partition("/")[0])
    volume = volume_of(read_seg(candidate.label, space), space, integers=True)
    return volume, segment_classes(candidate.label, candidate.notes.get("classes", ()))
