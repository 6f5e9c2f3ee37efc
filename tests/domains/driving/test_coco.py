"""The pooled figures are those of pycocotools' own COCOeval, on random boxes and on cases worked out by hand."""

import json
import math
import time
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest

from domains.driving.coco import IGNORED_ALL, crowd, joined, matched, pool, precisions

CLASSES = 3
CAR = [0, 0, 40, 40]  # 1600 pixels: of medium size


def official(frames):
    """COCOeval's twelve figures of (found, reference) of each frame."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for image, (found, reference) in enumerate(frames, 1):
        for kind, *box in reference.tolist():
            labels = range(CLASSES) if kind == IGNORED_ALL else [k for k in range(CLASSES) if kind in (k, crowd(k))]
            annotations += [
                {"id": len(annotations) + 1 + k, "image_id": image, "category_id": label, "bbox": xywh(box),
                 "area": (box[2] - box[0]) * (box[3] - box[1]), "iscrowd": int(kind < 0)}
                for k, label in enumerate(labels)
            ]  # fmt: skip
        for label, score, *box in found.tolist():
            results.append({"image_id": image, "category_id": int(label), "bbox": xywh(box), "score": score})
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image} for image in range(1, len(frames) + 1)],
        "categories": [{"id": label} for label in range(CLASSES)],
        "annotations": annotations,
    }
    with redirect_stdout(StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


def xywh(box):
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def some_frames(seed, count=12):
    """Objects of all sizes, ignored areas and crowds among them; boxes near most of them, and wrong ones."""
    draw, frames = np.random.default_rng(seed), []
    for _ in range(count):
        objects = draw.integers(0, 12)
        corner = draw.integers(0, 300, (objects, 2))
        side = np.exp(draw.uniform(np.log(8), np.log(200), (objects, 2))).round()
        kinds = draw.choice([0, 0, 1, 1, 2, IGNORED_ALL, crowd(0), crowd(1)], objects)
        reference = np.concatenate([kinds[:, None], corner, corner + side], 1).astype(float)
        near = reference[draw.random(objects) < 0.8].repeat(2, 0)
        near[:, 1:] += draw.normal(0, 0.06, (len(near), 4)) * (near[:, 3:4] - near[:, 1:2])
        wrong = draw.integers(0, 300, (draw.integers(0, 6), 2)).astype(float)
        boxes = np.concatenate([near[:, 1:], np.concatenate([wrong, wrong + 30], 1)])
        labels = np.concatenate([np.where(near[:, 0] >= 0, near[:, 0], 0), draw.integers(0, 3, len(wrong))])
        scores = draw.permutation(100_000)[: len(boxes)] / 100_000
        frames.append((np.concatenate([labels[:, None], scores[:, None], boxes], 1), reference))
    return frames


@pytest.mark.parametrize("seed", range(4))
def test_pool__is_pycocotools(seed):
    frames = some_frames(seed)
    figures = pool([json.loads(json.dumps(matched(*frame, CLASSES))) for frame in frames])
    expected = official(frames)
    names = ("map", "ap50", "ap75", "recall_small", "recall_medium", "recall_large")
    assert 0.05 < figures["map"] < 0.95
    assert [figures[name] for name in names] == pytest.approx([expected[n] for n in (0, 1, 2, 9, 10, 11)], abs=1e-9)


def test_joined__is_the_same_as_apart():
    details = [matched(*frame, CLASSES) for frame in some_frames(5)]
    assert pool([joined(details[:5]), *details[5:]]) == pytest.approx(pool(details), nan_ok=True)


def found_as(*rows):
    return np.array(rows, float).reshape(-1, 6)


def there(*rows):
    return np.array(rows, float).reshape(-1, 5)


def test_pool__one_object_found_with_an_overlap_of_four_fifths():
    figures = pool([matched(found_as([0, 0.5, 0, 0, 40, 32]), there([0, *CAR]), 2)])
    assert figures == pytest.approx(
        # right at 0.50, 0.55 ... 0.80: seven of ten overlaps
        {"map": 0.7, "ap50": 1, "ap75": 1, "recall_small": math.nan, "recall_medium": 0.7, "recall_large": math.nan},
        nan_ok=True,
    )


def test_pool__the_same_box_twice_and_the_wrong_class():
    twice = matched(found_as([0, 0.9, *CAR], [0, 0.8, *CAR]), there([0, *CAR]), 2)
    assert pool([twice])["map"] == 1  # the surplus one comes after all objects are found
    surplus_first = matched(found_as([0, 0.9, 60, 60, 90, 90], [0, 0.8, *CAR]), there([0, *CAR]), 2)
    assert pool([surplus_first])["map"] == 0.5
    wrong_class = matched(found_as([1, 0.9, *CAR]), there([0, *CAR]), 2)
    assert pool([wrong_class])["map"] == 0 and math.isnan(precisions([wrong_class])[1, 0])


@pytest.mark.parametrize(("area", "expected"), [(IGNORED_ALL, 1), (crowd(0), 1), (crowd(1), 0.5)])
def test_pool__boxes_in_ignored_areas_are_neither_right_nor_wrong(area, expected):
    inside = found_as([0, 0.9, 60, 60, 90, 90], [0, 0.8, *CAR])
    figures = pool([matched(inside, there([0, *CAR], [area, 50, 50, 200, 200]), 2)])
    assert figures["map"] == expected


def test_pool__frames_without_objects_and_without_boxes():
    empty = matched(found_as(), there(), 2)
    assert all(math.isnan(value) for value in pool([empty]).values())
    assert all(math.isnan(value) for value in pool([matched(found_as([0, 0.9, *CAR]), there(), 2)]).values())
    assert pool([empty, matched(found_as(), there([0, *CAR]), 2)])["map"] == 0
    right, wrong = matched(found_as([0, 0.8, *CAR]), there([0, *CAR]), 2), found_as([0, 0.9, *CAR])
    assert pool([right, matched(wrong, there(), 2)])["map"] == 0.5  # a negative frame counts


def test_pool__is_fast_enough_for_two_thousand_resamples():
    details = [matched(*frame, CLASSES) for frame in some_frames(6, count=100)]
    started = time.perf_counter()
    for _ in range(10):
        pool(details)
    assert (time.perf_counter() - started) / 10 < 0.05
