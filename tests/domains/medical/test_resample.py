"""Resampling: sizes, and a way back that loses little."""

import numpy as np
import pytest

from domains.medical.resample import resample_image, resample_label, resample_probabilities, resampled_shape


@pytest.fixture
def smooth():
    axes = np.meshgrid(*(np.linspace(0, 3, n) for n in (20, 48, 40)), indexing="ij")
    return np.sin(axes[0] + axes[1]) * np.cos(axes[2])


def test_resampled_shape__none_and_one_percent_stay():
    assert resampled_shape((20, 48, 40), (5, 1.009, 2), (None, 1, 1)) == (20, 48, 80)
    assert resampled_shape((20, 48, 40), (5, 0.5, 2), (2.5, 1, 100)) == (40, 24, 1)


def test_resample_image__round_trip(smooth):
    there = resample_image(smooth[None], (20, 31, 55))
    back = resample_image(there, smooth.shape)[0]
    assert there.shape == (1, 20, 31, 55) and np.abs(back - smooth)[:, 2:-2, 2:-2].max() < 0.02


def test_resample_image__keeps_places():
    image = np.zeros((1, 8, 40, 40), np.float32)
    image[:, :, 10:20, 20:30] = 1
    small = resample_image(image, (8, 20, 20))[0, 4]
    centre = [(small.sum(1 - a) * (np.arange(20) + 0.5) * 2).sum() / small.sum() for a in (0, 1)]
    assert centre == pytest.approx([15, 25], abs=1e-3)


def test_resample_image__no_aliasing():
    stripes = np.tile(np.array([0.0, 1.0]), 32)[None, None, None] * np.ones((1, 4, 4, 1))
    assert resample_image(stripes, (4, 4, 16))[..., 3:-3].std() < 0.05


def test_resample_label__round_trip_and_classes():
    label = np.zeros((20, 40, 40), np.uint8)
    label[5:15, 10:30, 10:20], label[5:15, 10:30, 20:30] = 1, 2
    back = resample_label(resample_label(label, (20, 27, 27), 3), label.shape, 3)
    assert set(np.unique(back)) == {0, 1, 2}
    for c in (1, 2):
        assert 2 * ((back == c) & (label == c)).sum() / ((back == c).sum() + (label == c).sum()) > 0.9


def test_resample_probabilities__still_sum_to_one():
    p = np.random.default_rng(0).dirichlet([1, 1, 1], (5, 9, 7)).transpose(3, 0, 1, 2)
    assert np.allclose(resample_probabilities(p, (5, 20, 13)).sum(0), 1, atol=1e-5)
