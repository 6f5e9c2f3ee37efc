"""Masks judged by hand, and against NumPy."""

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from domains.medical import metrics


def block(shape, *slices):
    mask = np.zeros(shape, bool)
    mask[slices] = True
    return mask


def test_overlap__golden_shift():
    """Two 4x4 squares, one shifted by one pixel: 12 shared of 16 + 16."""
    a = block((10, 10), slice(2, 6), slice(2, 6))
    b = block((10, 10), slice(2, 6), slice(3, 7))
    figures = metrics.overlap(a, b, None)
    assert figures["dice"] == pytest.approx(24 / 32)
    assert figures["hd95"] == pytest.approx(1.0)
    assert figures["nsd"] == pytest.approx(1.0)  # every surface pixel within one voxel


def test_overlap__millimetres_follow_the_axis():
    a = block((8, 12, 12), slice(2, 4), slice(2, 6), slice(2, 6))
    deeper = np.roll(a, 1, axis=0)
    assert metrics.overlap(a, deeper, (5.0, 1.0, 1.0))["hd95"] == pytest.approx(5.0)
    assert metrics.overlap(a, np.roll(a, 1, axis=2), (5.0, 1.0, 1.0))["hd95"] == pytest.approx(1.0)
    assert metrics.overlap(a, deeper, (5.0, 1.0, 1.0))["nsd"] == pytest.approx(0.5)  # tolerance 2 mm, a slice is 5
    assert metrics.unit((5.0, 1.0, 1.0)) == "mm" and metrics.unit(None) == "voxel"


def test_overlap__empty_masks():
    empty, full = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    assert metrics.overlap(empty, empty, None) == {"dice": 1.0, "hd95": 0.0, "nsd": 1.0}
    for pair in ((empty, full), (full, empty)):
        figures = metrics.overlap(*pair, None)
        assert figures["dice"] == 0.0 and figures["nsd"] == 0.0 and math.isnan(figures["hd95"])


def test_overlap__shapes_differ():
    with pytest.raises(ValueError, match="shape"):
        metrics.overlap(np.zeros((4, 4), bool), np.zeros((4, 5), bool), None)


@pytest.mark.parametrize("seed", range(4))
def test_overlap__numpy_reference(seed):
    rng = np.random.default_rng(seed)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(9, 12, 14)), 1.5) > 0.05 for _ in range(2))
    spacing = (3.0, 1.5, 1.0)

    def surface(mask):
        inside = ndimage.binary_erosion(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inside) * spacing

    distances = cdist(surface(a), surface(b))
    hd95 = max(np.percentile(distances.min(0), 95), np.percentile(distances.min(1), 95))
    figures = metrics.overlap(a, b, spacing)
    assert figures["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-6)
    assert figures["hd95"] == pytest.approx(hd95, abs=1e-4)


def test_components__corners_join():
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert metrics.components(mask)[1] == 1


def test_lesions__golden():
    """Three lesions; one prediction touches two of them, one lies apart."""
    reference = block((1, 12, 12), 0, slice(0, 2), slice(0, 2))
    reference |= block((1, 12, 12), 0, slice(0, 2), slice(4, 6))
    reference |= block((1, 12, 12), 0, slice(9, 11), slice(9, 11))
    predicted = block((1, 12, 12), 0, slice(1, 2), slice(1, 5)) | block((1, 12, 12), 0, slice(9, 11), slice(0, 2))
    figures = metrics.lesions(predicted, reference)
    assert figures["lesions"] == 3 and figures["false_positives"] == 1
    assert figures["lesion_sensitivity"] == pytest.approx(2 / 3)
    assert math.isnan(metrics.lesions(predicted, np.zeros_like(reference))["lesion_sensitivity"])
