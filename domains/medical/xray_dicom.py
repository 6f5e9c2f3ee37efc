"""X-rays in DICOM: computed and digital radiographs, as bright as their reader saw them, bones white."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from domains.errors import Refused
from domains.medical.dicom.instance import BROKEN, Instance, read_image, read_instance, refuse_burned_in
from domains.medical.dicom.pixels import decoded
from domains.medical.dicom.tree import SECONDARY_CAPTURE
from domains.medical.xray_table import facts_of

MODALITIES = ("CR", "DX", "RG")
WHITE = 65535


def why_not(instance: Instance, *, captures: bool) -> str | None:
    """Why a file is no X-ray, or None.

    Args:
        instance: its header.
        captures: whoever owns the images says that none of their secondary captures has text in its pixels.

    Raises:
        Refused: it is one, but may name the patient in its pixels.
    """
    refuse_burned_in(instance)
    if instance.text("Modality").upper() not in MODALITIES or not min(instance.size):
        return "a DICOM file, but no X-ray image"
    said_clean = captures or instance.text("BurnedInAnnotation").upper() == "NO"
    if instance.text("SOPClassUID").startswith(SECONDARY_CAPTURE) and not said_clean:
        raise Refused(
            "a secondary capture, which may name the patient in its pixels; dataset.yaml can say `captures: clean`"
        )
    return None


def stated_by(instance: Instance) -> dict[str, Any]:
    """Sex, age band and view as a table would say them, None where the header does not."""
    age, view = instance.text("PatientAge").upper(), instance.text("ViewPosition").upper()
    years = "0" if age[-1:] in ("D", "W", "M") else age
    return facts_of(instance.text("PatientSex"), years, {"LL": "LATERAL", "RL": "LATERAL"}.get(view, view))


def size_of(path: Path) -> tuple[int, int]:
    """Width and height, from the header.

    Raises:
        Refused: it cannot be read.
    """
    rows, columns = read_instance(path).size
    return columns, rows


def read_dicom_pixels(path: Path) -> tuple[np.ndarray, int]:
    """(H, W) float32 of whole numbers 0..65535 and 16: the window or table of its reader applied, bones white.

    Raises:
        Refused: it cannot be decoded, is a colour image or holds several.
    """
    dataset = read_image(path).header
    frames = decoded(dataset)
    if len(frames) != 1:
        raise Refused(f"{len(frames)} images in one file")
    try:
        shown = np.asarray(apply_voi_lut(apply_modality_lut(frames[0], dataset), dataset), dtype=np.float64)
    except BROKEN as error:
        raise Refused(f"its window or table of grey values cannot be applied ({type(error).__name__})") from None
    if str(dataset.get("PhotometricInterpretation")).strip() == "MONOCHROME1":
        shown = -shown
    low, high = shown.min(), shown.max()
    if not np.isfinite([low, high]).all():
        raise Refused("NaN or infinite values")
    return np.round((shown - low) * (WHITE / max(high - low, 1e-9))).astype(np.float32), 16
