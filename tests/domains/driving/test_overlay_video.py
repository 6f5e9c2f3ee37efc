"""A video with the times of its source."""

import av
import numpy as np
import pytest

from domains.driving.overlay_video import OverlayVideo


def test_overlay_video__times_levels_and_an_odd_size(tmp_path):
    seconds, levels = [0.0, 0.1, 0.15, 0.4, 1.0], [30, 80, 130, 180, 230]
    with OverlayVideo(tmp_path / "out.mp4") as video:
        for second, level in zip(seconds, levels, strict=True):
            video.write(np.full((37, 65, 3), level, np.uint8), second)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [frame.time - frames[0].time for frame in frames] == pytest.approx(seconds, abs=1e-4)
    decoded = [frame.to_ndarray(format="rgb24") for frame in frames]
    assert decoded[0].shape == (36, 64, 3)
    assert [frame.mean() for frame in decoded] == pytest.approx(levels, abs=3)
