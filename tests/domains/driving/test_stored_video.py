"""Recordings in the store: any frames in any order as a plain decoder gives them, true colours, equal bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from driving_files import moving, write_frames

from domains.driving.stored_video import KEY_EVERY, PACKETS, VIDEO, Reader, Writer
from domains.driving.video import pictures

ALL = slice(None)


def stored(path: Path, folder: Path, shape=(48, 64)) -> Reader:
    folder.mkdir()
    with Writer(folder, shape) as writer:
        for picture in pictures(path, Counter()):
            writer.add(picture.frame, picture.rotation, picture.seconds)
    return Reader(folder)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    """An H.264 file with B-frames and 50 frames, transcoded."""
    folder = tmp_path_factory.mktemp("drive")
    frames = moving(50)
    write_frames(folder / "a.mp4", frames, np.arange(50) / 25, "libx264", {"crf": "5", "bf": "3", "g": "50"})
    return folder, frames, stored(folder / "a.mp4", folder / "entry")


def test_read__any_frames_in_any_order_are_those_of_a_plain_decoder(drive):
    folder, frames, reader = drive
    with av.open(str(folder / "entry" / VIDEO)) as container:
        plain = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.array_equal(reader.read(range(50), ALL, ALL), plain)
    for indices in ([49], [0], [31, 2, 2, 14, 15, 16], [29, 30, 44, 45]):
        assert np.array_equal(reader.read(indices, slice(8, 24), slice(3, 40)), plain[indices, 8:24, 3:40])
    apart = np.abs(plain[1:-1].astype(int)[:, None] - np.stack([frames[:-2], frames[1:-1], frames[2:]], 1))
    before, same, after = apart.mean((0, 2, 3, 4))
    assert same < 4 and 2 * same < min(before, after)


def test_read__decodes_from_the_keyframe_before_and_no_frame_twice(drive, monkeypatch):
    _, _, reader = drive
    fed: list[int] = []
    inner = Reader._packet
    monkeypatch.setattr(Reader, "_packet", lambda self, number: fed.append(number) or inner(self, number))
    reader.read([17, 20, 17, 46], ALL, ALL)
    assert fed == [15, 16, 17, 18, 19, 20, 45, 46]


def test_writer__a_keyframe_every_15_and_equal_bytes_for_equal_frames(drive, tmp_path):
    folder, _, _ = drive
    packets = np.load(folder / "entry" / PACKETS)
    assert len(packets) == 50 and np.flatnonzero(packets[:, 2]).tolist() == list(range(0, 50, KEY_EVERY))
    stored(folder / "a.mp4", tmp_path / "again")
    assert (tmp_path / "again" / VIDEO).read_bytes() == (folder / "entry" / VIDEO).read_bytes()


@pytest.mark.parametrize(
    ("pix_fmt", "colour"),
    [("yuv420p", (5, 1)), ("yuv420p", (1, 1)), ("yuvj420p", (5, 2)), ("yuvj420p", (1, 2)), ("yuv444p", (1, 1))],
)
def test_colours__come_back_whatever_matrix_and_range_the_source_has(tmp_path, pix_fmt, colour):
    patches = [(200, 30, 30), (30, 180, 40), (40, 50, 210), (250, 250, 250), (8, 8, 8), (220, 200, 40)]
    frame = np.repeat(np.array(patches, np.uint8)[None], 32, 0).repeat(16, 1)  # (32, 96, 3) in columns of 16
    write_frames(tmp_path / "a.mp4", [frame] * 3, [0, 0.1, 0.2], "libx264", {"crf": "1"}, 0, pix_fmt, colour)
    with av.open(str(tmp_path / "a.mp4")) as container:
        source = next(container.decode(video=0))
        assert (source.colorspace, source.color_range) == colour
    read = stored(tmp_path / "a.mp4", tmp_path / "entry", (32, 96)).read([1], ALL, ALL)[0]
    middles = read[8:24].reshape(16, 6, 16, 3)[:, :, 5:11].mean((0, 2))
    assert np.abs(middles - patches).max() < 5


def test_writer__keeps_no_metadata_and_no_place(tmp_path):
    said = {"location": "+52.5200+013.4050/", "title": "to work", "com.apple.quicktime.make": "cam"}
    write_frames(tmp_path / "a.mov", moving(5), np.arange(5) / 10, metadata=said)
    assert b"+52.5200" in (tmp_path / "a.mov").read_bytes()
    stored(tmp_path / "a.mov", tmp_path / "entry")
    content = b"".join(file.read_bytes() for file in (tmp_path / "entry").iterdir())
    assert not any(text in content for text in (b"+52.5200", b"to work", b"quicktime", b"xyz", b"a.mov"))


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_writer__turns_a_recording_upright(tmp_path, rotation):
    frame = np.full((48, 64, 3), 40, np.uint8)
    frame[:16, :16] = 220  # top left as coded
    write_frames(tmp_path / "a.mp4", [frame] * 3, [0, 0.1, 0.2], rotation=rotation)
    shape = (48, 64) if rotation == 180 else (64, 48)
    [read] = stored(tmp_path / "a.mp4", tmp_path / "entry", shape).read([1], ALL, ALL)
    turned = np.rot90(frame, rotation // 90)
    assert np.abs(read.astype(int) - turned).mean() < 4
