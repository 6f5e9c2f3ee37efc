"""Pictures are PNGs of the right size, turned the radiological way."""

import io
import threading

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy import ndimage

from domains.medical import show
from tests.lesion_entries import contract_for, head, lesion, write_entries

SHAPE = (8, 48, 40)
SPACING = (5.0, 2.0, 2.0)


def decoded(png):
    return imread(io.BytesIO(png), format="png")[..., :3]


def coloured(picture, colour):
    """How many pixels are near a colour."""
    wanted = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return int((np.abs(picture - wanted).max(-1) < 0.15).sum())


def test_overlay__both_contours():
    mask = lesion(SHAPE).astype(np.uint8)
    plain = decoded(show.overlay(head(SHAPE) * 1.0, mask, None, SPACING))
    both = decoded(show.overlay(head(SHAPE) * 1.0, mask, np.roll(mask, 3, 2), SPACING))
    assert coloured(plain, show.PREDICTED) > 100 and coloured(plain, show.REFERENCE) == 0
    assert coloured(both, show.PREDICTED) > 100 and coloured(both, show.REFERENCE) > 100
    assert len(show.overlay(head(SHAPE) * 1.0, mask, None, SPACING)) < 300_000


def test_overlay__a_colour_for_each_class(monkeypatch):
    said = []
    monkeypatch.setattr(Figure, "legend", lambda self, handles, **_: said.extend(line.get_label() for line in handles))
    core = lesion(SHAPE)
    label = np.where(core, 1, np.where(ndimage.binary_dilation(core, iterations=2), 2, 0)).astype(np.uint8)
    names = ("core", "edema", "cyst")
    both = decoded(show.overlay(head(SHAPE) * 1.0, label, label, SPACING, names=names))
    drawn = [coloured(both, colour) > 100 for colour in show.CLASS_COLOURS]
    assert drawn == [True, True, False, False, False, False]
    assert said == [*names, "prediction", "reference"]
    assert "Dice 1.00 (core 1.00, edema 1.00, cyst 1.00)" in show._title(label, label, None, names)


def test_overlay__planes_go_through_the_reference_also_where_the_prediction_is_larger_elsewhere(monkeypatch):
    reference, prediction, crossed = np.zeros(SHAPE, int), np.zeros(SHAPE, int), []
    real = show._three_planes
    monkeypatch.setattr(
        show, "_three_planes", lambda image, place, *rest: crossed.append(place) or real(image, place, *rest)
    )
    reference[2, 5, 6] = prediction[-1, 10:, 10:] = 1
    for given in (reference, None, np.zeros(SHAPE, int)):
        show.overlay(head(SHAPE) * 1.0, prediction, given, SPACING)
    assert crossed[0] == (2, 5, 6) and crossed[1][0] == crossed[2][0] == SHAPE[0] - 1


def test_overlay__nothing_found():
    empty = np.zeros(SHAPE, np.uint8)
    assert decoded(show.overlay(head(SHAPE) * 1.0, empty, empty, SPACING, spacing_known=False)).ndim == 3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_section__radiological(axis):
    """A voxel far to the right, front and top is drawn at the upper left; in any order of the axes."""
    volume = np.zeros((4, 6, 8))
    volume[3, 5, 7] = 1
    place = (3, 5, 7)
    section = show._section(volume, axis, place, "SAR")
    assert section[0, 0] == 1
    turned = volume.transpose(2, 0, 1)  # R, S, A
    again = show._section(turned, [1, 2, 0][axis], (7, 3, 5), "RSA")
    assert np.array_equal(section, again)


def test_title__units():
    mask = lesion(SHAPE)
    assert "ml" in show._title(mask, None, SPACING)
    assert "voxels" in show._title(mask, mask, None) and "Dice 1.00" in show._title(mask, mask, None)


def test_thumbnail__small(tmp_path):
    entry, _ = write_entries(tmp_path, contract_for("2d", (64, 64)))
    png = show.thumbnail(entry)
    assert decoded(png).shape[1] == 420 and len(png) < 120_000


@pytest.mark.parametrize("shape", [(32, 32), (6, 32, 32)])
def test_panels__rows_and_columns(shape):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 1, *shape))
    picture = decoded(show.panels({"original": image, "masked": image * 0, "label": image > 1}))
    assert picture.shape[1] == 510 and picture.shape[0] == 370


def test_telling_sections__where_the_panels_differ():
    image = np.zeros((5, 4, 4))
    painted = image.copy()
    painted[3] = 1
    assert show._telling_sections([image, painted])[1].all()


def test_overlay__threads_do_not_mix():
    mask = lesion(SHAPE).astype(np.uint8)
    expected = show.overlay(head(SHAPE) * 1.0, mask, None, SPACING)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(show.overlay(head(SHAPE) * 1.0, mask, None, SPACING)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3
