"""A mask as a DICOM SEG that belongs to its series: coded terms, the algorithm's name, references to each slice."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.uid import UID
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from domains.errors import Refused
from domains.medical.dicom.instance import BROKEN, read_instance, read_whole
from domains.medical.dicom.stack import is_mosaic, stack_of

STRUCTURE, ABNORMAL = codes.SCT.AnatomicalStructure, codes.SCT.MorphologicallyAbnormalStructure
TERMS: dict[str, tuple[Code, Code]] = {
    "tumor": (ABNORMAL, codes.SCT.Neoplasm),
    "lesion": (ABNORMAL, codes.SCT.Lesion),
    "edema": (ABNORMAL, codes.SCT.Edema),
    "necrosis": (ABNORMAL, codes.SCT.Necrosis),
    "anterior": (STRUCTURE, codes.SCT.Hippocampus),
    "posterior": (STRUCTURE, codes.SCT.Hippocampus),
}
"""Class of a recipe -> category and type as SNOMED CT has them; a class without an entry keeps its own name."""
OWN_SCHEME = "99SELFSIGHT"
SERIES_NUMBER = 900


def write_seg(path: Path, mask: np.ndarray, slices: Sequence[Path], names: Sequence[str]) -> None:
    """Writes a binary SEG with one segment a class; viewers lay it over the series it refers to.

    Args:
        path: to write.
        mask: (columns, rows, slices) classes from 0, in the order of `stack_of`.
        slices: files of the series.
        names: of the classes from 1 on.

    Raises:
        Refused: the source is a mosaic, or lacks what a SEG must repeat (frame of reference, study).
    """
    instances = [read_instance(one) for one in slices]
    if is_mosaic(instances[0]):
        raise Refused("a SEG cannot refer to the tiles of a mosaic")
    stack = stack_of(instances)
    source = {one: read_whole(one) for one in stack.paths}
    frames = mask.transpose(2, 1, 0)
    images = [source[one] for one in stack.paths]
    if len(images) == 1:  # frames of one file: in the order they have there
        frames = frames[np.argsort([one.frame for one in stack.slices])]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values in the source that break the rules of their type
            made = _segmentation(images, frames, names)
            made.save_as(path)
    except BROKEN as error:
        raise Refused(f"its headers lack what a SEG must repeat ({type(error).__name__}: {error})") from None


def _segmentation(images: Sequence[Dataset], frames: np.ndarray, names: Sequence[str]) -> Segmentation:
    by = AlgorithmIdentificationSequence("selfsight", codes.DCM.ArtificialIntelligence, version("selfsight"))
    return Segmentation(
        source_images=images,
        pixel_array=np.stack([frames == k for k in range(1, len(names) + 1)], axis=-1).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[
            SegmentDescription(k, name, *_terms(name), "AUTOMATIC", by) for k, name in enumerate(names, 1)
        ],
        series_instance_uid=UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="selfsight",
        manufacturer_model_name="selfsight",
        software_versions=version("selfsight"),
        device_serial_number="0",
        content_label="PREDICTION",
        series_description="selfsight, research software, not for diagnosis",
        omit_empty_frames=False,
    )


def _terms(name: str) -> tuple[Code, Code]:
    return TERMS.get(name, (STRUCTURE, Code(name.upper()[:16], OWN_SCHEME, name)))
