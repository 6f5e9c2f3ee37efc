"""Image files in: upright, and refused where they are damaged."""

import numpy as np
import pytest
from driving_files import save_frame
from PIL import Image

from domains.driving.readers import image_frames, image_size, read_ids
from domains.errors import Refused


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
