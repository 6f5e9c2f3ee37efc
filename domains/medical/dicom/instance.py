"""One DICOM file: is it one, can it be read, what does its header say that ingestion needs."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from domains.errors import Refused

SUFFIXES = (".dcm", ".dicom", ".ima")
BROKEN = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, AttributeError, KeyError,
    IndexError, NotImplementedError, RuntimeError, struct.error, UnicodeError,
)  # fmt: skip
"""What pydicom raises on damaged files."""
TAGS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID",
    "Modality", "ImageType", "InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "BurnedInAnnotation", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceThickness", "EchoTime", "RepetitionTime", "InversionTime",
    "ScanningSequence", "SequenceVariant", "EchoNumbers", "DiffusionBValue", "ContrastBolusAgent",
    "AcquisitionContrast", "SeriesDescription", "ProtocolName", "PhotometricInterpretation", "ViewPosition",
    "PatientSex", "PatientAge", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
"""All that is read of a header: an allow-list."""
PIXEL_TAGS = (
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelData",
    "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
)  # fmt: skip
"""What decoding needs beside it."""


@dataclass(frozen=True)
class Instance:
    """What a file's header says. Positions in mm, patient coordinates of DICOM (left, posterior, superior)."""

    path: Path
    header: Dataset
    """The tags of `TAGS`: private to this package."""

    def text(self, name: str) -> str:
        """A tag as stripped text, "" where it is missing or empty."""
        value = self.header.get(name)
        return "" if value is None else str(value).strip()

    def words(self, name: str) -> tuple[str, ...]:
        """A tag with several values, in capitals."""
        value = self.header.get(name)
        if value is None:
            return ()
        values = [value] if isinstance(value, str) else list(value)
        return tuple(str(v).strip().upper() for v in values)

    def number(self, name: str) -> float | None:
        """A tag as a number; None where it is missing or none."""
        try:
            value = self.header.get(name)
            found = float(value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value)
        except (TypeError, ValueError, IndexError):
            return None
        return found if np.isfinite(found) else None

    @property
    def image_type(self) -> tuple[str, ...]:
        return self.words("ImageType")

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.number("Rows") or 0), int(self.number("Columns") or 0)


def looks_like_dicom(path: Path) -> bool:
    """By suffix, by the mark at byte 128, or by the first element of a file without one."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    with open(path, "rb") as file:
        head = file.read(132)
    return head[128:132] == b"DICM" or head[:4] in (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00")


def refuse_burned_in(instance: Instance) -> None:
    """Raises Refused when the header says that its pixels carry text."""
    if instance.text("BurnedInAnnotation").upper() == "YES":
        raise Refused("annotations are burned into its pixels: they may name the patient")


def read_instance(path: Path) -> Instance:
    """The header of a file, its pixels left where they are.

    Raises:
        Refused: it cannot be read.
    """
    return Instance(path, _read(path, stop_before_pixels=True, specific_tags=list(TAGS)))


def read_image(path: Path) -> Instance:
    """The header of a file and what its pixels are decoded from.

    Raises:
        Refused: it cannot be read.
    """
    return Instance(path, _read(path, specific_tags=[*TAGS, *PIXEL_TAGS]))


def read_whole(path: Path) -> Dataset:
    """A file with everything in it.

    Raises:
        Refused: it cannot be read.
    """
    return _read(path)


def _read(path: Path, **options: Any) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that break the rules of their type: they are checked where used
        try:
            found = pydicom.dcmread(path, force=True, **options)
            list(found.iterall())  # values are parsed when they are looked at: all of them, nested ones too, here
        except BROKEN as error:
            raise Refused(f"damaged DICOM file ({type(error).__name__})") from None
    if not len(found):
        raise Refused("not a DICOM file, or damaged: nothing of an image can be read")
    return found
