"""Generated DICOM series for tests: a tilted head-like blob, written as a scanner would, with whatever is to be odd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

FLAIR = {"ScanningSequence": ["SE", "IR"], "RepetitionTime": 9000, "EchoTime": 90, "InversionTime": 2500}
T1 = {"ScanningSequence": "SE", "RepetitionTime": 500, "EchoTime": 10}
ANGLE = 0.3
DIRECTIONS = np.array([[1, 0, 0], [0, np.cos(ANGLE), -np.sin(ANGLE)]])
"""Of an oblique axial stack."""
WHOLE = {
    "FrameOfReferenceUID": "1.2.3.4", "PatientName": "Doe^Jane", "PatientBirthDate": "", "PatientSex": "",
    "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "StudyID": "", "ReferringPhysicianName": "",
    "SeriesNumber": 1, "Manufacturer": "", "Laterality": None,
}  # fmt: skip
"""What a scanner writes and a SEG repeats."""
NAMES = ("DOE^JANE", "Jane Doe", "19700101", "ACC4711", "Dr Who", "SN-12345")
"""Of a patient that `plant` makes of whoever it was; nothing of them may get into a home."""
SPACING, STEP = (0.8, 0.9), 5.0
"""Between rows and columns, and between slices, in mm."""
ORIGIN = np.array([-20.0, -30.0, 10.0])


def blob(slices: int = 8, rows: int = 24, columns: int = 20, seed: int = 0) -> np.ndarray:
    """(slices, rows, columns) uint16 below 4096, bright in the middle, no two slices alike."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in (slices, rows, columns)), indexing="ij")
    away = sum(g**2 for g in grid)
    noise = np.random.default_rng(seed).integers(0, 200, (slices, rows, columns))
    return (2000 * (away < 0.8) + noise + 20 * np.arange(slices)[:, None, None]).astype(np.uint16)


def position(index: float) -> np.ndarray:
    """(3,) of slice `index`, in DICOM's patient axes."""
    return ORIGIN + index * STEP * np.cross(*DIRECTIONS)


def instance(pixels: np.ndarray, number: int, place: np.ndarray | None, **tags: Any) -> FileDataset:
    """One slice; `tags` replace what is there, None removes."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SOPClassUID": MRImageStorage, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID, "Modality": "MR",
        "PatientID": "patient", "StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.1.1",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"], "InstanceNumber": number, "PixelSpacing": list(SPACING),
        "ImageOrientationPatient": [float(f"{v:.8f}") for v in DIRECTIONS.ravel()], "SliceThickness": 4,
        "Rows": pixels.shape[-2], "Columns": pixels.shape[-1], "SamplesPerPixel": 1, "BitsAllocated": 16,
        "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2",
    }  # fmt: skip
    if place is not None:
        values["ImagePositionPatient"] = [float(f"{v:.6f}") for v in place]
    for name, value in (values | FLAIR | tags).items():
        if value is not None:
            setattr(made, name, value)
    made.PixelData = pixels.tobytes()
    return made


def write_series(folder: Path, volume: np.ndarray | None = None, **tags: Any) -> list[Path]:
    """One file a slice, named against their order; the paths are in the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    volume = blob() if volume is None else volume
    paths = [folder / f"{(7 * n) % 101:03d}.dcm" for n in range(len(volume))]
    for number, (path, pixels) in enumerate(zip(paths, volume, strict=True)):
        instance(pixels, len(volume) - number, position(number), **tags).save_as(path)
    return paths


def plant(paths: list[Path]) -> None:
    """Writes NAMES wherever a file can hold them: standard, nested and private attributes, and an overlay."""
    nested = _of(PatientName="DOE^JANE", PatientBirthDate="19700101")
    named = {
        "PatientName": "DOE^JANE", "OtherPatientNames": "Jane Doe", "PatientBirthDate": "19700101",
        "StudyDate": "19700101", "AccessionNumber": "ACC4711", "StudyID": "ACC4711", "ReferringPhysicianName": "Dr Who",
        "SeriesDescription": "Jane Doe FLAIR", "StudyDescription": "ACC4711", "DeviceSerialNumber": "SN-12345",
        "RequestAttributesSequence": [nested],
    }  # fmt: skip
    for path in paths:
        made = pydicom.dcmread(path)
        made.PatientID = f"SN-12345-{made.PatientID}"
        for name, value in named.items():
            setattr(made, name, value)
        made.private_block(0x0019, "Jane Doe", create=True).add_new(0x10, "LO", "DOE^JANE")
        made.add_new(0x60000022, "LO", "Jane Doe")  # description of an overlay
        made.add_new(0x60003000, "OW", b"DOE^JANE" * 25)
        made.save_as(path)


def write_enhanced(path: Path, volume: np.ndarray) -> None:
    """All slices as the frames of one file, in shuffled order, rescaled by their own slope."""
    order = np.random.default_rng(1).permutation(len(volume))
    made = instance(volume[order], 1, None, PixelSpacing=None, ImageOrientationPatient=None, ScanningSequence=None,
                    SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", AcquisitionContrast="FLUID_ATTENUATED")  # fmt: skip
    made.NumberOfFrames = len(volume)
    shared, frames = Dataset(), []
    shared.PlaneOrientationSequence = [_of(ImageOrientationPatient=[float(f"{v:.8f}") for v in DIRECTIONS.ravel()])]
    shared.PixelMeasuresSequence = [_of(PixelSpacing=list(SPACING), SliceThickness=4)]
    for index in order:
        frame = Dataset()
        frame.PlanePositionSequence = [_of(ImagePositionPatient=[float(f"{v:.6f}") for v in position(index)])]
        frame.PixelValueTransformationSequence = [_of(RescaleSlope=2, RescaleIntercept=int(index), RescaleType="US")]
        frames.append(frame)
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], frames
    made.save_as(path)


def _of(**tags: Any) -> Dataset:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made
