"""Video files in: real timestamps, damage counted, everything that is no video refused without its name."""

from collections import Counter

import numpy as np
import pytest

from domains.driving.video import video_frames, video_header
from domains.errors import Refused


def test_video_frames__timestamps_are_the_files_own(video):
    seconds = [0.0, 0.03, 0.1, 0.35, 0.36, 1.2]
    path, levels = video(seconds)
    damage = Counter()
    frames = list(video_frames(path, damage))
    assert [frame.seconds for frame in frames] == pytest.approx(seconds)
    assert [round(frame.rgb.mean()) for frame in frames] == pytest.approx(levels, abs=4)
    assert video_header(path).shape == (48, 64) and not +damage


def test_video_frames__a_damaged_stream_is_counted(video):
    path, _ = video(np.arange(60) / 30)
    whole = bytearray(path.read_bytes())
    draw = np.random.default_rng(1)
    for at in draw.integers(200, len(whole) // 2, 300):
        whole[at] = int(draw.integers(256))
    path.write_bytes(whole)
    damage = Counter()
    frames = list(video_frames(path, damage))
    assert frames and damage["corrupt_frames"] + damage["lost_packets"] > 0


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100, b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n"])
def test_video_frames__no_video_is_refused(tmp_path, content):
    path = tmp_path / "secret-name.mp4"
    path.write_bytes(content)
    with pytest.raises(Refused) as refusal:
        list(video_frames(path, Counter()))
    assert "secret" not in refusal.value.reason


def test_video_frames__a_playlist_opens_nothing(video, tmp_path):
    path, _ = video([0.0, 0.1])
    for name, text in {
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path.name}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile {path.name}\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(Refused):
            list(video_frames(tmp_path / name, Counter()))


def test_video_frames__truncated_without_its_index(video):
    path, _ = video(np.arange(30) / 30)
    path.write_bytes(path.read_bytes()[:-800])  # the moov atom stands at the end
    with pytest.raises(Refused):
        list(video_frames(path, Counter()))
