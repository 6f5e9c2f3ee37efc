"""Masks as classes: void stays void, values that are no class are refused."""

import numpy as np
import pytest
from PIL import Image

from domains.driving.classes import VOID
from domains.driving.labels import frame_label
from domains.errors import Refused


def mask(tmp_path, values):
    path = tmp_path / "mask.png"
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return path


def test_frame_label__by_the_names_of_the_source_or_by_number(tmp_path):
    path = mask(tmp_path, [[0, 1, 2], [3, 255, 1]])
    assert frame_label(path, (2, 3), 3).tolist() == [[0, 1, 2], [VOID, VOID, 1]]
    assert frame_label(path, (2, 3), 3, {1: 2, 2: 0}).tolist() == [[VOID, 2, 0], [VOID, VOID, 2]]


def test_frame_label__what_does_not_fit_is_refused(tmp_path):
    path = mask(tmp_path, [[0, 7]])
    with pytest.raises(Refused, match="no class"):
        frame_label(path, (1, 2), 3)
    with pytest.raises(Refused, match="mask of 1 x 2 pixels"):
        frame_label(path, (2, 2), 3)
