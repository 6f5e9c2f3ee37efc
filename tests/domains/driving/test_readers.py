"""Video and image files in: real timestamps, damage counted, everything that is no video refused without its name."""

from collections import Counter

import numpy as np
import pytest
from driving_files import save_frame
from PIL import Image

from domains.driving.readers import image_frames, image_size, read_ids, video_frames, video_size
from domains.errors import Refused


def test_video_frames__timestamps_are_the_files_own(video):
    seconds = [0.0, 0.03, 0.1, 0.35, 0.36, 1.2]
    path, levels = video(seconds)
    damage = Counter()
    frames = list(video_frames(path, damage))
    assert [frame.seconds for frame in frames] == pytest.approx(seconds)
    assert [round(frame.rgb.mean()) for frame in frames] == pytest.approx(levels, abs=4)
    assert video_size(path) == (48, 64) and not +damage


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


def test_image_frames__upright_by_its_orientation(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    [frame] = image_frames([tmp_path / "a.jpg"], [1.5])
    assert frame.rgb.shape == (30, 20, 3) and frame.seconds == 1.5 and image_size(tmp_path / "a.jpg") == (30, 20)


def test_image_frames__truncated_is_refused(tmp_path):
    path = save_frame(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(Refused):
        list(image_frames([path], [0.0]))


def test_read_ids__colours_are_no_classes(tmp_path):
    with pytest.raises(Refused, match="mode RGB"):
        read_ids(save_frame(tmp_path / "a.png"))
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(ids, mode="P")
    palette.putpalette(list(range(36)))
    palette.save(tmp_path / "b.png")
    assert np.array_equal(read_ids(tmp_path / "b.png"), ids)
