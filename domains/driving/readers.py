"""Frames with their seconds, from a video file or from image files; only files on this disk are opened."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from domains.errors import Refused

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE_FORMATS = ("PNG", "JPEG")
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,matroska,webm,avi,mpeg"}
"""A playlist under a video's name could open other files or the network: neither its format nor a protocol is taken."""
MOST_PIXELS = 4096 * 4096
"""Of a frame; beyond that nothing is decoded."""

# damaged files make the decoder print a line a frame; what matters is counted below
logging.getLogger("libav").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    seconds: float
    """Its timestamp in the source; the origin is the source's own."""


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) in pixels as shown, from the header alone.

    Raises:
        Refused: not a PNG or JPEG file.
    """
    with _opened_image(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def video_size(path: Path) -> tuple[int, int]:
    """(H, W) in pixels, from the container alone.

    Raises:
        Refused: not a video of a known kind, or one without a picture.
    """
    with _opened_video(path) as container:
        context = container.streams.video[0].codec_context
        return context.height, context.width


def image_frames(paths: Sequence[Path], seconds: Sequence[float]) -> Iterator[Frame]:
    """One frame a file.

    Raises:
        Refused: a file cannot be decoded.
    """
    for path, second in zip(paths, seconds, strict=True):
        with _opened_image(path) as image:
            try:
                rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise Refused(f"damaged image data ({type(error).__name__})") from None
        yield Frame(rgb, second)


def read_ids(path: Path) -> np.ndarray:
    """(H, W) uint8 values of a mask: grey levels, or the indices of a palette.

    Raises:
        Refused: not a mask.
    """
    with _opened_image(path) as image:
        if image.mode not in ("L", "P", "1"):
            raise Refused(f"a mask of mode {image.mode}; class numbers in one channel of 8 bits are needed")
        try:
            return np.asarray(image).astype(np.uint8)
        except (OSError, SyntaxError, ValueError) as error:
            raise Refused(f"damaged image data ({type(error).__name__})") from None


def video_frames(path: Path, damage: Counter[str]) -> Iterator[Frame]:
    """Every frame that can be decoded, in the order shown, with the timestamps of the file.

    Args:
        path: of the file.
        damage: counts `corrupt_frames`, which the decoder marks (it conceals damage without an error), `lost_packets`,
            which it cannot decode, and `frames_out_of_order`, which are left out.

    Raises:
        Refused: not a video of a known kind, no timestamps, turned, or of changing size.
    """
    with _opened_video(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # files are read side by side; concealment depends on the threads
        last: Frame | None = None
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:  # the container ends in the middle of something
                damage["lost_packets"] += 1
                return
            if packet is None:
                return
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                damage["lost_packets"] += 1
                continue
            for picture in decoded:
                frame = _checked(picture, last)
                damage["corrupt_frames"] += int(picture.is_corrupt)
                if last is not None and frame.seconds <= last.seconds:
                    damage["frames_out_of_order"] += 1
                    continue
                last = frame
                yield frame


def _checked(picture: av.VideoFrame, last: Frame | None) -> Frame:
    if picture.time is None:
        raise Refused("frames without timestamps")
    if picture.rotation:
        raise Refused(f"recorded turned by {picture.rotation} degrees: turn it upright first")
    if last is not None and (picture.height, picture.width) != last.rgb.shape[:2]:
        raise Refused("changes its resolution in mid-stream")
    return Frame(picture.to_ndarray(format="rgb24"), float(picture.time))


def _opened_image(path: Path) -> Image.Image:
    try:
        image = Image.open(path, formats=IMAGE_FORMATS)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise Refused(f"not a PNG or JPEG file that can be read ({type(error).__name__})") from None
    if image.width * image.height > MOST_PIXELS:
        raise Refused(f"absurd size of {image.width} x {image.height} pixels")
    return image


def _opened_video(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path.absolute()), options=OPTIONS)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise Refused(f"not a video file that can be read ({type(error).__name__})") from None
    streams = container.streams.video
    if not streams:
        container.close()
        raise Refused("no picture in it: sound or data only")
    context = streams[0].codec_context
    if context is None or not 0 < context.width * context.height <= MOST_PIXELS:
        container.close()
        raise Refused("no decoder for its picture, or an absurd size")
    return container
