"""One draw for all frames of a clip; labels move along; a mirror turns yaw and steering round."""

import numpy as np
import pytest

from domains.driving.augment import augment, is_mirrored, mirrored_actions
from domains.driving.shapes import Shape, moved


def clip(frames=4, shape=(40, 56)):
    """A bright square on a dark ground, the same in every frame, and its label."""
    label = np.zeros((frames, *shape), np.uint8)
    label[:, 6:20, 4:24] = 3
    return np.where(label[..., None] == 3, 220, 30).astype(np.uint8).repeat(3, -1), label


def test_augment__one_draw_for_all_frames_and_none_of_it_remembered():
    frames, label = clip()
    seen = set()
    for seed in range(12):
        changed, label_moved, matrix = augment(frames, label, (32, 48), np.random.default_rng(seed))
        assert changed.shape == (4, 32, 48, 3) and changed.dtype == np.uint8 and label_moved.shape == (4, 32, 48)
        assert (changed == changed[:1]).all() and (label_moved == label_moved[:1]).all()
        again = augment(frames, label, (32, 48), np.random.default_rng(seed))
        assert np.array_equal(changed, again[0]) and np.array_equal(label_moved, again[1])
        assert np.array_equal(matrix, again[2])
        seen.add(changed.tobytes())
    assert len(seen) == 12


def test_augment__labels_move_with_the_picture():
    frames, label = clip()
    flips = set()
    for seed in range(20):
        changed, label_moved, matrix = augment(frames, label, (32, 48), np.random.default_rng(seed))
        grey = changed[0].mean(-1)
        bright = grey > (grey.min() + grey.max()) / 2
        overlap = (bright & (label_moved[0] == 3)).sum() / (bright | (label_moved[0] == 3)).sum()
        assert set(np.unique(label_moved)) == {0, 3} and overlap > 0.85
        mirrored = is_mirrored(matrix)
        assert mirrored == (np.nonzero(label_moved[0])[1].mean() > 24)
        flips.add(mirrored)
    assert flips == {False, True}


def test_augment__a_painted_dot_and_its_point_stay_together():
    """The dot's centre of mass, in pixels from the edges, is where the matrix takes the point; a mirror included."""
    flips, worst = set(), 0.0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        middle = draw.uniform(25, 45, 2)  # x, y in a window of 70 x 80 pixels
        y, x = np.indices((70, 80)) + 0.5
        dot = 200 * np.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / (2 * 2.5**2)) + 20
        frames = np.repeat(dot[None, ..., None], 3, -1).round().astype(np.uint8)
        crop = (48, 64) if seed % 2 else (96, 100)
        changed, _, matrix = augment(frames, None, crop, draw)
        light = changed[0].mean(-1)
        light = (light - np.quantile(light, 0.5)).clip(3) - 3
        rows, columns = np.indices(crop) + 0.5
        seen = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
        point = moved(Shape(0, 0, middle[None].astype(np.float32)), matrix).points[0]
        worst = max(worst, np.abs(seen - point).max())
        flips.add(is_mirrored(matrix))
    assert flips == {False, True} and worst < 0.25


def test_mirrored_actions__yaw_and_steering_change_sign():
    names = ("speed_m_per_s", "yaw_rate_rad_per_s", "steering_degrees")
    actions = np.array([[10.0, 0.2, -30.0], [12.0, -0.1, 5.0]], np.float32)
    assert mirrored_actions(actions, names) == pytest.approx(actions * [1, -1, -1])
    assert np.array_equal(mirrored_actions(mirrored_actions(actions, names), names), actions)
