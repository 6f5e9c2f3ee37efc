"""Candidates, FROC and slices judged by hand, and the FROC against MONAI's."""

import math

import numpy as np
import pytest
from monai.metrics import compute_froc_curve_data, compute_froc_score

from domains.medical import detection


def scan(hits=(), false=(), missed=0, small=False, slices=((0.1, 0),)):
    """Details of a scan with lesions found at these scores."""
    lesions = [{"small": small, "score": score} for score in (*hits, *[None] * missed)]
    boxes = {"scores": [], "hits": [[] for _ in range(9)]}
    return {"lesions": lesions, "false_scores": list(false), "boxes": boxes, "slices": [list(s) for s in slices],
            "unit": "voxel"}  # fmt: skip


def test_of_scan__by_hand():
    probability, reference = np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 8), bool)
    probability[0, 1, 1:3] = [0.3, 0.9]  # touches the lesion
    probability[2, 6, 6] = 0.4  # does not
    probability[1, 6, 0] = 0.1  # below the threshold
    reference[0, 1, 0:2] = reference[0, 3, 6:8] = True
    found = detection.of_scan(probability, reference, None)
    assert found["lesions"] == [{"small": True, "score": 0.9}, {"small": True, "score": None}]
    assert found["false_scores"] == [0.4]
    assert found["slices"] == [[0.9, 1], [0.1, 0], [0.4, 0]]
    assert found["boxes"]["scores"] == [0.9, 0.4]


@pytest.mark.parametrize(
    ("voxels", "spacing", "small"),
    [(1999, None, True), (2000, None, False), (520, (1, 1, 1), True), (530, (1, 1, 1), False), (53, (5, 1, 2), False)],
)
def test_is_small__a_ball_of_ten_millimetres_or_two_thousand_voxels(voxels, spacing, small):
    """A ball of 10 mm holds 523.6 mm3."""
    assert detection.is_small(voxels, spacing) is small


def test_small_lesions__only_these():
    reference = np.zeros((1, 50, 50), bool)
    reference[0, :45, :45] = reference[0, 48, 48] = True
    assert np.argwhere(detection.small_lesions(reference, None)).tolist() == [[0, 48, 48]]
    assert not detection.small_lesions(np.zeros((1, 4, 4), bool), None).any()


def test_froc__golden():
    """Four lesions on two scans: 0.9 hit, 0.8 false, 0.7 hit, 0.6 false, 0.5 hit; one lesion is never found."""
    figures = detection.froc([scan([0.9, 0.5], [0.8]), scan([0.7], [0.6], missed=1)])
    assert figures["sensitivity_at_0.5"] == pytest.approx(0.5)
    assert figures["sensitivity_at_1"] == pytest.approx(0.75)  # the lowest score counts: MONAI alone drops it
    assert figures["sensitivity_at_8"] == pytest.approx(0.75)
    assert figures["sensitivity_at_0.25"] == pytest.approx(0.25)  # level from 0 to 0.5, where it jumps
    assert math.isnan(detection.froc([scan(false=[0.4])])["froc"])


@pytest.mark.parametrize("seed", range(3))
def test_froc__agrees_with_monai(seed):
    rng = np.random.default_rng(seed)
    hits, false = rng.random(30).round(2), rng.random(200).round(2)  # with ties
    false[0] = 0.0  # the lowest score, so that MONAI's missing operating point costs one false positive only
    rates, sensitivity = compute_froc_curve_data(false, hits, 40, 20)
    expected = compute_froc_score(rates, sensitivity, detection.RATES)
    figures = detection.froc([scan(hits, false, missed=10), *[scan()] * 19])
    assert figures["froc"] == pytest.approx(expected, abs=1e-6)


def test_froc__small_lesions_apart():
    """The large one is found first, the small one only below two false positives."""
    details = [scan([0.9]), scan([0.3], [0.8, 0.7], small=True), *[scan()] * 2]
    assert detection.froc(details)["sensitivity_at_0.125"] == pytest.approx(0.5)
    small = detection.froc(details, small=True)
    assert set(small) == {"small_froc", *(f"small_sensitivity_at_{rate:g}" for rate in detection.RATES)}
    assert small["small_sensitivity_at_0.25"] == 0 and small["small_sensitivity_at_0.5"] == 1
    assert "small_froc" not in detection.pool(details)  # one scan with a small lesion is no set
    many = details + [scan(missed=1, small=True)] * 2
    assert detection.pool(many)["small_sensitivity_at_8"] == pytest.approx(1 / 3)
    assert detection.summarise(many)["small_froc_curve"][-1] == [
        pytest.approx(2 / 6, abs=1e-4),
        pytest.approx(1 / 3, abs=1e-4),
    ]


def test_froc__perfect_and_blind():
    assert detection.froc([scan([1.0])])["froc"] == 1.0
    assert detection.froc([scan(false=[0.9], missed=1)])["froc"] == 0.0


def test_pool__slices_of_all_scans_together():
    one, other = scan([0.9], slices=[(0.9, 1), (0.2, 0)]), scan([0.6], slices=[(0.6, 1), (0.7, 0)])
    figures = detection.pool([one, other])
    assert figures["slice_auroc"] == pytest.approx(3 / 4)
    assert figures["slice_average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert "scan_auroc" not in figures


def test_pool__scans_where_some_have_none():
    sick, healthy = scan([0.6], slices=[(0.6, 1), (0.2, 0)]), scan(slices=[(0.3, 0), (0.1, 0)])
    assert detection.pool([sick, healthy])["scan_auroc"] == 1
    assert "judged by scan and by slice (1 of 4 slices" in detection.summarise([sick, healthy])["notes"][0]


def test_summarise__says_that_the_unit_is_the_slice():
    middle = [(0.1, 0), (0.9, 1), (0.2, 0)]
    found = detection.summarise([scan([0.9], slices=middle), scan([0.8], small=True, slices=middle)])
    assert found["notes"][0].startswith("Every scan has a lesion, so whether a patient has a tumour cannot be judged")
    assert "2 of 6 slices" in found["notes"][0]
    assert "under 2000 voxels (the spacing is nominal): 1 of 2, in fewer than 3 scans" in found["notes"][1]
    figures = detection.pool([scan([0.9], slices=middle), scan([0.8], slices=[*middle, (0.3, 0), (0.4, 0)])])
    assert figures["slice_auroc_position_alone"] == pytest.approx((5.5 + 4.5) / 12)  # the second is off the middle
    assert detection.summarise([]) == {}


def test_summarise__shuffled_scores_tell_nothing():
    """Negative control: slices whose scores have nothing to do with the tumour."""
    rng = np.random.default_rng(0)
    details = [scan([0.5], slices=[(rng.random(), int(rng.random() < 0.3)) for _ in range(40)]) for _ in range(40)]
    assert detection.pool(details)["slice_auroc"] == pytest.approx(0.5, abs=0.05)
