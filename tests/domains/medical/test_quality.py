"""Verdicts on decoded volumes."""

import numpy as np
import pytest

from domains.errors import Refused
from domains.medical.quality import check_channel, figures, foreground
from domains.medical.readers import Volume


def volume(data):
    return Volume(data[None].astype(np.float32), np.eye(4), (1.0, 1.0, 1.0), True, "")


def test_check_channel__finds_the_ball(ball):
    inside = check_channel(volume(ball))
    grid = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in ball.shape), indexing="ij"))
    truth = np.linalg.norm(grid, axis=0) < 9
    assert 2 * (inside & truth).sum() / (inside.sum() + truth.sum()) > 0.85


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_channel__not_finite(ball, value):
    ball[1, 2, 3] = value
    with pytest.raises(Refused, match=r"NaN or infinite values in 0\.0"):
        check_channel(volume(ball))


def test_check_channel__constant():
    with pytest.raises(Refused, match="constant: every voxel is 7"):
        check_channel(volume(np.full((20, 20, 20), 7)))


def test_check_channel__empty():
    image = np.zeros((20, 32, 32))
    image[4:6, 4:6, 4:6] = 100
    with pytest.raises(Refused, match="nearly empty"):
        check_channel(volume(image))


def test_foreground__fills_dark_holes(ball):
    ball[8:12, 14:18, 12:16] = 0
    assert foreground(ball)[10, 16, 14]


@pytest.mark.parametrize("scale", [1e-3, 254 / 100, 1.7e6 / 100])
def test_foreground__any_intensity_scale(ball, scale):
    assert np.array_equal(foreground(ball), foreground(ball * np.float32(scale)))


def test_figures__clipped_and_snr(ball):
    inside = foreground(ball)
    good, clipped = figures(ball, inside), figures(np.minimum(ball, 100), inside)
    assert clipped["clipped_share"] > 0.3 > 0.01 > good["clipped_share"]
    noisy = ball + np.abs(np.random.default_rng(1).normal(0, 10, ball.shape))
    assert figures(noisy, inside)["snr"] < good["snr"]
    assert figures(ball * inside, inside)["snr"] is None


@pytest.mark.real_data
def test_check_channel__tumour_set_is_all_usable(real_medical):
    from domains.medical.readers import read_volume

    for path in sorted((real_medical / "brain_mri_lgg").glob("*/flair.nii.gz"))[::15]:
        assert 0.1 < check_channel(read_volume(path)).mean() < 0.75
