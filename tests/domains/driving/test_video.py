"""Video files in: real timestamps, damage counted, everything that is no video refused without its name."""

import itertools
import math
import resource
import struct
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from driving_files import moving, save_frame, write_frames

import domains.driving.video as reading
from domains.driving.video import pictures, video_header, video_index
from domains.errors import Refused


def test_pictures__timestamps_are_the_files_own(video):
    seconds = [0.0, 0.03, 0.1, 0.35, 0.36, 1.2]
    path, levels = video(seconds)
    damage = Counter()
    frames = list(pictures(path, damage))
    assert [frame.seconds for frame in frames] == pytest.approx(seconds)
    assert [round(frame.rgb.mean()) for frame in frames] == pytest.approx(levels, abs=4)
    assert video_header(path).shape == (48, 64) and not +damage


def test_pictures__a_damaged_stream_is_counted(video):
    path, _ = video(np.arange(60) / 30)
    whole = bytearray(path.read_bytes())
    draw = np.random.default_rng(1)
    for at in draw.integers(200, len(whole) // 2, 300):
        whole[at] = int(draw.integers(256))
    path.write_bytes(whole)
    damage = Counter()
    frames = list(pictures(path, damage))
    assert frames and damage["corrupt_frames"] + damage["lost_packets"] > 0


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100, b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n"])
def test_pictures__no_video_is_refused(tmp_path, content):
    path = tmp_path / "secret-name.mp4"
    path.write_bytes(content)
    with pytest.raises(Refused) as refusal:
        list(pictures(path, Counter()))
    assert "secret" not in refusal.value.reason


def test_pictures__a_playlist_opens_nothing(video, tmp_path):
    path, _ = video([0.0, 0.1])
    for name, text in {
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path.name}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile {path.name}\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(Refused):
            list(pictures(tmp_path / name, Counter()))


def test_pictures__truncated_without_its_index(video):
    path, _ = video(np.arange(30) / 30)
    path.write_bytes(path.read_bytes()[:-800])  # the moov atom stands at the end
    with pytest.raises(Refused):
        list(pictures(path, Counter()))


@pytest.fixture(scope="module")
def h264(tmp_path_factory):
    """An H.264 recording of 100 frames with B-frames and a keyframe every 30."""
    path = tmp_path_factory.mktemp("h264") / "drive.mp4"
    options = {"bf": "2", "g": "30", "sc_threshold": "0"}
    return write_frames(path, moving(100), 0.48 + np.arange(100) / 25, "libx264", options)


def test_pictures__parts_are_the_whole(h264):
    whole = [(f.seconds, f.rgb.tobytes()) for f in pictures(h264, Counter())]
    assert [seconds for seconds, _ in whole] == pytest.approx(np.arange(100) / 25)
    edges = [0, 0.5, 1.21, 2.44, math.inf]
    parts = [[*pictures(h264, Counter(), a, b)] for a, b in itertools.pairwise(edges)]
    assert [(f.seconds, f.rgb.tobytes()) for part in parts for f in part] == whole
    assert [len(part) for part in parts] == [13, 18, 30, 39]


def test_pictures__begins_at_the_keyframe_before(h264, monkeypatch):
    decoded = []
    inner = reading._frames
    monkeypatch.setattr(reading, "_frames", lambda *args: (decoded.append(f.time) or f for f in inner(*args)))
    assert next(pictures(h264, Counter(), 3.0)).seconds == pytest.approx(3.0)
    assert len(decoded) == 16  # the keyframe is at 2.4 s


def test_pictures__an_index_that_leads_elsewhere(h264, monkeypatch):
    found = video_index(h264)
    later = replace(found, keys=np.array([[2.4, found.keys[3, 1]]]) - [[2.0, 0]])  # said to lie at 0.4 s
    monkeypatch.setattr(reading, "video_index", lambda path: later)
    assert [f.seconds for f in pictures(h264, Counter(), 1.0, 1.2)] == pytest.approx([1.0, 1.04, 1.08, 1.12, 1.16])


def test_pictures__no_frame_in_a_part(h264):
    with pytest.raises(Refused, match="no frame in this part"):
        next(pictures(h264, Counter(), 9.0, 12.0))


def test_video_index__equal_recordings_are_told_by_content_alone(h264, tmp_path):
    (tmp_path / "other-name.mp4").write_bytes(h264.read_bytes())
    other = write_frames(tmp_path / "b.mp4", moving(100), np.arange(100) / 25, "libx264")
    ids = [video_index(path).recording for path in (h264, tmp_path / "other-name.mp4", other)]
    assert ids[0] == ids[1] != ids[2]


def test_pictures__what_the_decoder_conceals_is_counted(h264, tmp_path):
    whole = bytearray(h264.read_bytes())
    start = whole.index(b"mdat")
    for at in np.random.default_rng(0).integers(start + 2000, start + len(whole) // 2, 40):
        whole[at] ^= 0x55
    (tmp_path / "a.mp4").write_bytes(whole)
    damage = Counter()
    frames = list(pictures(tmp_path / "a.mp4", damage))
    assert damage["corrupt_frames"] > 3 and len(frames) + damage["lost_packets"] >= 95
    clean = Counter()
    list(pictures(h264, clean))
    assert not +clean


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_pictures__upright(tmp_path, rotation):
    frame = np.full((48, 64, 3), 40, np.uint8)
    frame[:16, :16] = 220
    write_frames(tmp_path / "a.mp4", [frame] * 2, [0, 0.1], rotation=rotation)
    [read, _] = pictures(tmp_path / "a.mp4", Counter())
    assert np.abs(read.rgb.astype(int) - np.rot90(frame, rotation // 90)).mean() < 4


def test_pictures__an_odd_rotation_is_refused(tmp_path):
    write_frames(tmp_path / "a.mp4", moving(3), [0, 0.1, 0.2], rotation=33)
    with pytest.raises(Refused, match="turn it upright"):
        list(pictures(tmp_path / "a.mp4", Counter()))


def test_pictures__another_size_in_mid_stream_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, pixels in enumerate([*moving(5), *moving(5, (80, 96))]):
            if number == 5:
                container.mux(stream.encode())
                other = av.CodecContext.create("mpeg4", "w")
                other.width, other.height, other.pix_fmt = 96, 80, "yuv420p"
                other.time_base, other.framerate = Fraction(1, 10), Fraction(10)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            for packet in (stream.codec_context if number < 5 else other).encode(frame):
                packet.stream = stream
                container.mux(packet)
    with pytest.raises(Refused, match="changes its resolution"):
        list(pictures(tmp_path / "a.avi", Counter()))


def declaring(path, frames):
    """Bytes of an mp4 whose tables say that it has so many frames."""
    found = bytearray(path.read_bytes())
    at = {tag: found.index(tag) for tag in (b"stts", b"stsz", b"stsc")}
    struct.pack_into(">I", found, at[b"stts"] + 12, frames)
    struct.pack_into(">II", found, at[b"stsz"] + 8, 100, frames)
    struct.pack_into(">I", found, at[b"stsc"] + 16, frames)
    return bytes(found)


def test_video_header__a_thousand_million_frames_are_not_believed(h264, tmp_path):
    path = tmp_path / "secret.mp4"
    path.write_bytes(declaring(h264, 10**9))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Refused, match=r"100000000\d frames, more than a day's") as refusal:
        video_header(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000 and "secret" not in refusal.value.reason


def test_video_header__sound_alone_has_no_picture(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(Refused, match="sound or data only"):
        video_header(tmp_path / "a.mp4")


def test_video_index__zero_frames(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    with pytest.raises(Refused, match=r"no frame in it|not a video"):
        list(pictures(tmp_path / "a.mkv", Counter()))


def test_pictures__a_wrong_suffix_does_not_matter_and_a_picture_is_no_video(h264, tmp_path):
    (tmp_path / "a.avi").write_bytes(h264.read_bytes())
    assert len(list(pictures(tmp_path / "a.avi", Counter()))) == 100
    save_frame(tmp_path / "b.png").rename(tmp_path / "b.mp4")
    with pytest.raises(Refused, match="not a video file"):
        video_header(tmp_path / "b.mp4")


def test_pictures__a_name_is_no_protocol(h264, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(h264.read_bytes())
    name = Path("concat:a.mp4|a.mp4")
    name.write_bytes(b"nothing")
    with pytest.raises(Refused, match="not a video file"):
        list(pictures(name, Counter()))
