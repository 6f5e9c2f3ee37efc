"""X-rays in DICOM: which are taken, how bright they become, what their header tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import FLAIR, instance

from domains.errors import Refused
from domains.medical.recipes import RECIPES
from domains.medical.xray_images import inspect, read, read_pixels
from domains.medical.xray_layout import scan

RECIPE = RECIPES["chest_xray"]
NO_SERIES = dict.fromkeys([*FLAIR, "ImageOrientationPatient", "SliceThickness"])
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def ramp(rows: int = 80, columns: int = 100) -> np.ndarray:
    """Grey values from 0 to 4095 along the columns."""
    return np.tile(np.linspace(0, 4095, columns).astype(np.uint16), (rows, 1))


def write_xray(path: Path, pixels: np.ndarray | None = None, **tags: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = ramp() if pixels is None else pixels
    said = {"Modality": "DX", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "PatientID": "p", "PatientSex": "F",
            "PatientAge": "058Y", "ViewPosition": "PA"}  # fmt: skip
    instance(pixels, 1, None, **(NO_SERIES | said | tags)).save_as(path)
    return path


def test_read_pixels__bones_are_white_whatever_zero_means(tmp_path: Path) -> None:
    plain, bits = read_pixels(write_xray(tmp_path / "a.dcm"))
    assert bits == 16 and (plain.min(), plain.max()) == (0, 65535)
    np.testing.assert_allclose(plain, ramp() * (65535 / 4095), atol=0.51)
    inverted, _ = read_pixels(write_xray(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(inverted, 65535 - plain, atol=1)


def test_read_pixels__the_window_of_its_reader(tmp_path: Path) -> None:
    """PS3.3 C.11.2.1.2: below centre - width / 2 black, above it white, linear between."""
    shown, _ = read_pixels(write_xray(tmp_path / "a.dcm", WindowCenter=2000, WindowWidth=1000))
    value = ramp().astype(float)
    linear = ((value - (2000 - 0.5)) / (1000 - 1) + 0.5).clip(0, 1)
    np.testing.assert_allclose(shown, linear * 65535, atol=1.5)


def test_scan__the_header_tells_patient_sex_age_and_view(tmp_path: Path) -> None:
    write_xray(tmp_path / "x" / "IM1", PatientID="one")
    write_xray(tmp_path / "y" / "IM2", PatientID="one", PatientAge="004M", ViewPosition="LL", PatientSex="O")
    first, second = scan(tmp_path, RECIPE).candidates
    assert first.group == second.group == "one"
    assert first.notes["facts"] == {"sex": "F", "age_band": "50-59", "view": "PA"}
    assert second.notes["facts"] == {"sex": None, "age_band": "0-9", "view": "LATERAL"}
    assert inspect(first) == {"shape": [80, 100]} and read(first, RECIPE).facts["view"] == "PA"


def test_scan__a_capture_needs_a_word_from_its_owner(tmp_path: Path) -> None:
    capture = write_xray(tmp_path / "capture.dcm", SOPClassUID=CAPTURE)
    clean = write_xray(tmp_path / "clean.dcm", SOPClassUID=CAPTURE, BurnedInAnnotation="NO")
    burned = write_xray(tmp_path / "burned.dcm", BurnedInAnnotation="YES")
    other = write_xray(tmp_path / "mr.dcm", Modality="MR")
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(b"nothing")
    found = scan(tmp_path, RECIPE)
    assert [c.images["xray"] for c in found.candidates] == [clean]
    assert set(found.refused) == {capture, burned, damaged} and set(found.ignored) == {other}
    assert "captures: clean" in found.refused[capture]
    (tmp_path / "dataset.yaml").write_text("captures: clean\n")
    assert {c.images["xray"] for c in scan(tmp_path, RECIPE).candidates} == {capture, clean}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"NumberOfFrames": 2, "Rows": 40}, "too small"),
        ({"PixelData": b""}, "decoded"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "a colour image"),
    ],
)
def test_read_pixels__refused(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    path = write_xray(tmp_path / "a.dcm", **{k: v for k, v in tags.items() if k != "PixelData"})
    if "PixelData" in tags:
        path.write_bytes(path.read_bytes()[:-8000])
    with pytest.raises(Refused, match=reason):
        read_pixels(path)


@pytest.mark.real_data
def test_read_pixels__two_real_radiographs_one_of_them_labelled_inverse(real_data: Path) -> None:
    folder = real_data / "medical/dicom/cxr_single"
    inverse, plain = (read_pixels(path)[0] for path in sorted(folder.iterdir(), reverse=True))
    assert plain.shape == (1024, 1024)
    np.testing.assert_allclose(plain, 65535 - inverse, atol=1)
