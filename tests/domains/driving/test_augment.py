"""One draw for all frames of a clip; labels move along; a mirror turns yaw and steering round."""

import numpy as np
import pytest

from domains.driving.augment import augment, mirrored_actions


def clip(frames=4, shape=(40, 56)):
    """A bright square on a dark ground, the same in every frame, and its label."""
    label = np.zeros((frames, *shape), np.uint8)
    label[:, 6:20, 4:24] = 3
    return np.where(label[..., None] == 3, 220, 30).astype(np.uint8).repeat(3, -1), label


def test_augment__one_draw_for_all_frames_and_none_of_it_remembered():
    frames, label = clip()
    seen = set()
    for seed in range(12):
        changed, moved, mirrored = augment(frames, label, (32, 48), np.random.default_rng(seed))
        assert changed.shape == (4, 32, 48, 3) and changed.dtype == np.uint8 and moved.shape == (4, 32, 48)
        assert (changed == changed[:1]).all() and (moved == moved[:1]).all()
        again = augment(frames, label, (32, 48), np.random.default_rng(seed))
        assert np.array_equal(changed, again[0]) and np.array_equal(moved, again[1]) and mirrored == again[2]
        seen.add(changed.tobytes())
    assert len(seen) == 12


def test_augment__labels_move_with_the_picture():
    frames, label = clip()
    flips = set()
    for seed in range(20):
        changed, moved, mirrored = augment(frames, label, (32, 48), np.random.default_rng(seed))
        grey = changed[0].mean(-1)
        bright = grey > (grey.min() + grey.max()) / 2
        overlap = (bright & (moved[0] == 3)).sum() / (bright | (moved[0] == 3)).sum()
        assert set(np.unique(moved)) == {0, 3} and overlap > 0.85
        assert mirrored == (np.nonzero(moved[0])[1].mean() > 24)
        flips.add(mirrored)
    assert flips == {False, True}


def test_mirrored_actions__yaw_and_steering_change_sign():
    names = ("speed_m_per_s", "yaw_rate_rad_per_s", "steering_degrees")
    actions = np.array([[10.0, 0.2, -30.0], [12.0, -0.1, 5.0]], np.float32)
    assert mirrored_actions(actions, names) == pytest.approx(actions * [1, -1, -1])
    assert np.array_equal(mirrored_actions(mirrored_actions(actions, names), names), actions)
