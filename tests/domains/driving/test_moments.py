"""What is kept of a recording of any length."""

import io

import numpy as np
from PIL import Image

from domains.driving.moments import Spread, Worst, contact_sheet

FRAME = np.full((36, 64, 3), 90, np.uint8)


def test_spread__evenly_over_all_frames_and_bounded():
    for frames in (1, 7, 100, 1003):
        spread = Spread(6)
        for number in range(frames):
            spread.see(number, number / 10, 1.0, FRAME)
        kept = [moment.frame for moment in spread.moments()]
        assert kept[0] == 0 and min(frames, 6) <= len(kept) <= 12
        assert len(set(np.diff(kept))) <= 1 and frames - kept[-1] <= max(np.diff(kept), default=1)


def test_worst__the_least_sure_and_apart():
    confidence = np.full(100, 0.9)
    confidence[[10, 12, 50, 70]] = 0.3, 0.1, 0.5, 0.2
    worst = Worst(3, apart_seconds=1.0)
    for number, value in enumerate(confidence):
        worst.see(number, number / 10, float(value), FRAME)
    assert [m.frame for m in worst.moments()] == [12, 70, 50]
    assert worst.listed()[0] == {"frame": 12, "pts_seconds": 1.2, "confidence": 0.1}


def test_contact_sheet__shows_every_moment():
    spread, worst = Spread(2), Worst(1, 1.0)
    for number, level in enumerate([40, 120, 250]):
        frame = np.full((36, 64, 3), level, np.uint8)
        spread.see(number, number / 10, 1.0, frame)
        worst.see(number, number / 10, 1 - number / 10, frame)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(spread.moments(), worst.moments()))))
    share = [(sheet == level).all(-1).sum() / (36 * 64) for level in (40, 120, 250)]
    assert np.round(share, 1).tolist() == [1, 1, 2]  # the last one is the worst as well (text adds a few pixels)
