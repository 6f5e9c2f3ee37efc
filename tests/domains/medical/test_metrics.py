"""Masks judged by hand, against NumPy, and against MONAI's FROC."""

import math

import numpy as np
import pytest
from monai.metrics import compute_froc_curve_data, compute_froc_score
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


def test_candidates__scores():
    probability = np.zeros((1, 8, 8), np.float32)
    probability[0, 1, 1:3] = [0.3, 0.9]  # touches the lesion
    probability[0, 6, 6] = 0.4  # does not
    probability[0, 6, 0] = 0.1  # below the threshold
    reference = block((1, 8, 8), 0, 1, slice(0, 2)) | block((1, 8, 8), 0, 3, slice(6, 8))
    assert metrics.candidates(probability, reference) == {"lesions": 2, "hit_scores": [0.9], "false_scores": [0.4]}


def test_froc__golden():
    """Four lesions on two scans: 0.9 hit, 0.8 false, 0.7 hit, 0.6 false, 0.5 hit; one lesion is never found."""
    details = [
        {"lesions": 2, "hit_scores": [0.9, 0.5], "false_scores": [0.8]},
        {"lesions": 2, "hit_scores": [0.7], "false_scores": [0.6]},
    ]
    figures = metrics.froc(details)
    assert figures["sensitivity_at_0.5"] == pytest.approx(0.5)
    assert figures["sensitivity_at_1"] == pytest.approx(0.75)  # the lowest score counts: MONAI alone drops it
    assert figures["sensitivity_at_8"] == pytest.approx(0.75)
    assert figures["sensitivity_at_0.25"] == pytest.approx(0.25)  # level from 0 to 0.5, where it jumps
    assert math.isnan(metrics.froc([{"lesions": 0, "hit_scores": [], "false_scores": [0.4]}])["froc"])


def test_froc__agrees_with_monai():
    rng = np.random.default_rng(0)
    hits, false = rng.random(30).round(3), rng.random(200).round(3)
    false[0] = 0.0  # the lowest score, so that MONAI's missing operating point costs one false positive only
    rates, sensitivity = compute_froc_curve_data(false, hits, 40, 20)
    expected = compute_froc_score(rates, sensitivity, metrics.FROC_RATES)
    figures = metrics.froc(
        [{"lesions": 40, "hit_scores": hits, "false_scores": false}]
        + 19 * [{"lesions": 0, "hit_scores": [], "false_scores": []}]
    )
    assert figures["froc"] == pytest.approx(expected, abs=1e-6)


def test_froc__perfect_and_blind():
    perfect = metrics.froc([{"lesions": 1, "hit_scores": [1.0], "false_scores": []}])
    blind = metrics.froc([{"lesions": 1, "hit_scores": [], "false_scores": [0.9]}])
    assert perfect["froc"] == 1.0 and blind["froc"] == 0.0
