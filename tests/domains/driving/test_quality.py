"""What is wrong with frames: black, frozen, blurred, standing, cut - and none of it where a car just drives."""

from __future__ import annotations

import numpy as np
import pytest
from driving_files import moving
from scipy import ndimage

from domains.driving.quality import FLAGS, Quality, cuts, weights


def measured(frames, rate=10.0, corrupt=()):
    quality = Quality()
    for number, frame in enumerate(frames):
        quality.add(frame, number / rate, number in corrupt)
    return quality


def street(count, seed=0):
    """(T, H, W) uint8 luma of a scene that moves, with a sensor's noise."""
    draw = np.random.default_rng(seed)
    scene = moving(count, (96, 160), seed)[..., 1].astype(float) * 0.7 + 30
    return (scene + draw.normal(0, 3, scene.shape)).clip(16, 235).astype(np.uint8)


def having(quality, name):
    return np.flatnonzero(quality.flags() & FLAGS[name]).tolist()


def test_flags__a_drive_has_none():
    quality = measured(street(40))
    assert not quality.flags().any()
    facts = quality.facts()
    assert facts["standing_seconds"] == facts["black_seconds"] == facts["scene_cuts"] == 0
    assert 60 < facts["quality"]["brightness"] < 180 and facts["quality"]["sharpness"] > 3


def test_flags__each_fault_is_found_where_it_is():
    frames = street(60)
    frames[5:10] = np.random.default_rng(1).normal(18, 1, frames[5:10].shape)
    frames[20:23] = frames[19]
    frames[30:34] = ndimage.gaussian_filter(frames[30:34].astype(float), (0, 3, 3))
    quality = measured(frames, corrupt=(50,))
    assert having(quality, "black") == [5, 6, 7, 8, 9]
    assert having(quality, "frozen") == [20, 21, 22]
    assert having(quality, "blurred") == [30, 31, 32, 33]
    assert having(quality, "corrupt") == [50] and not having(quality, "cut")
    facts = quality.facts()
    assert (facts["black_seconds"], facts["frozen_seconds"], facts["blurred_seconds"]) == (0.5, 0.3, 0.4)


@pytest.mark.parametrize("rate", [10.0, 30.0])
def test_flags__standing_still_in_spite_of_noise_and_a_passing_car(rate):
    frames = street(90).astype(float)
    for at in range(31, 61):
        frames[at] = frames[30] + np.random.default_rng(at).normal(0, 2, frames[30].shape)
        frames[at, 50:54, at : at + 6] = 200
    found = having(measured(frames.clip(0, 255).astype(np.uint8), rate), "standing")
    # it is known half of `OVER_SECONDS` or more after the car has stopped, and a change of `OVER_SECONDS` ends it
    assert set(range(30 + int(0.5 * rate) + 1, 61)) <= set(found) <= set(range(31, 61))


def test_flags__a_cut_is_a_new_scene_and_a_tunnel_is_none():
    frames = street(40)
    frames[20:] = street(40, seed=5)[20:]
    assert having(measured(frames), "cut") == [20]
    assert cuts(measured(frames).flags()).tolist() == [0] * 20 + [1] * 20
    darker = street(40)
    darker[20:] = 16 + (darker[20:] - 16) * 0.35
    assert not having(measured(darker), "cut")


def test_weights__the_least_of_a_frames_flags():
    flags = np.array([0, FLAGS["standing"], FLAGS["standing"] | FLAGS["black"], FLAGS["cut"]], np.uint8)
    assert weights(flags).tolist() == [1.0, 0.2, 0.05, 1.0]
