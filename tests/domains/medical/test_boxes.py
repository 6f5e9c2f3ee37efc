"""Boxes by hand, and their average precision against a worked-out case and MONAI's COCO metric."""

import numpy as np
import pytest
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou

from domains.medical import boxes
from domains.medical.metrics import components


def test_around__first_voxel_and_one_past_the_last():
    mask = np.zeros((4, 8, 8), bool)
    mask[1:3, 2:5, 7] = mask[3, 0, 0] = True
    assert boxes.around(components(mask)[0]).tolist() == [[1, 2, 7, 3, 5, 8], [3, 0, 0, 4, 1, 1]]
    assert boxes.around(np.zeros((2, 2, 2), int)).shape == (0, 6)


def test_matched__at_the_overlap_that_it_has():
    """4 x 4 x 4 against the same moved by 2 voxels: 32 of 96 is an IoU of 1/3."""
    found = boxes.matched(np.array([[0, 0, 0, 4, 4, 4]]), np.array([0.9]), np.array([[0, 0, 2, 4, 4, 6]]))
    assert [row for (row,) in found["hits"]] == [1, 1, 1, 1, 1, 0, 0, 0, 0]  # 0.10 to 0.30, not 0.35
    assert found["scores"] == [0.9]


def test_matched__two_boxes_on_one_lesion_and_none():
    box = [0, 0, 0, 4, 4, 4]
    found = boxes.matched(np.array([box, box]), np.array([0.3, 0.9]), np.array([box]))
    assert found["scores"] == [0.9, 0.3] and found["hits"][0] == [1, 0]  # the better one takes it
    empty = np.zeros((0, 6), int)
    assert boxes.matched(empty, np.zeros(0), np.array([box])) == {"scores": [], "hits": [[]] * 9}
    assert boxes.matched(empty, np.zeros(0), empty) == {"scores": [], "hits": [[]] * 9}
    assert boxes.matched(np.array([box]), np.array([0.5]), empty) == {"scores": [0.5], "hits": [[0]] * 9}


@pytest.mark.parametrize("seed", range(3))
def test_pool__agrees_with_monai(seed):
    rng = np.random.default_rng(seed)

    def some(low, high):
        start = rng.integers(0, 20, (rng.integers(low, high), 3))
        return np.concatenate([start, start + rng.integers(3, 12, start.shape)], axis=1)

    truth = [some(1, 4) for _ in range(6)]
    found = [np.concatenate([boxes_ + rng.integers(-2, 3, boxes_.shape), some(0, 5)]) for boxes_ in truth]
    scores = [rng.random(len(f)).round(4) for f in found]
    metric = COCOMetric(["lesion"], iou_list=(0.1, 0.5), max_detection=(100,), verbose=False)

    def as_float(many):
        return [one.astype(np.float32) for one in many]

    results = matching_batch(
        box_iou, metric.iou_thresholds, as_float(found), [np.zeros(len(f), int) for f in found], scores,
        as_float(truth), [np.zeros(len(t), int) for t in truth],
    )  # fmt: skip
    expected = metric(results)[0]
    details = [
        {"boxes": boxes.matched(f, s, t), "lesions": [None] * len(t)}
        for f, s, t in zip(found, scores, truth, strict=True)
    ]
    figures = boxes.pool(details)
    assert 0 < figures["box_map"] < 1
    assert figures["box_map"] == pytest.approx(expected["mAP_IoU_0.10_0.50_0.05_MaxDet_100"])
    assert figures["box_ap_at_0.1"] == pytest.approx(expected["AP_IoU_0.10_MaxDet_100"])
    assert figures["box_ap_at_0.5"] == pytest.approx(expected["AP_IoU_0.50_MaxDet_100"])
