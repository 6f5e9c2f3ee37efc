"""Small videos and frames with chosen content, and drives read into entries."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image
from scipy import ndimage

from domains.domain import Candidate
from domains.driving import DOMAIN
from domains.driving.recipes import DrivingRecipe
from domains.manifest import Contract, Subject


def write_video(path: Path, seconds, shape=(48, 64), seed=0, **kwargs) -> np.ndarray:
    """A video whose frame i is evenly grey (its level tells which it is) at each of `seconds`; gives the levels."""
    levels = (np.arange(len(seconds)) * 37 + seed) % 200 + 20
    write_frames(path, (np.full((*shape, 3), level, np.uint8) for level in levels), seconds, **kwargs)
    return levels


def write_frames(
    path: Path, frames, seconds, codec="mpeg4", options=None, rotation=0, pix_fmt="yuv420p", colour=None, metadata=None,
    tables_first=False,
) -> Path:  # fmt: skip
    """A video of frames (H, W, 3) uint8 at `seconds`; `colour` is (matrix, range), `rotation` anticlockwise."""
    tick, layout = Fraction(1, 1000), {"movflags": "+faststart"} if tables_first else {}
    with av.open(str(path), "w", options=layout) as container:
        container.metadata.update(metadata or {})
        stream, scaling = None, VideoReformatter()
        for pixels, second in zip(frames, seconds, strict=True):
            if stream is None:
                stream = container.add_stream(codec, rate=30, options=options or {})
                stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], pix_fmt
                stream.time_base = stream.codec_context.time_base = tick
                stream.bit_rate, stream.codec_context.thread_count = 4_000_000, 1
                if rotation:
                    stream.set_display_rotation(rotation)
                if colour:
                    stream.codec_context.colorspace, stream.codec_context.color_range = colour
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            matrix, limits = colour or (5, 1)
            frame = scaling.reformat(frame, format=pix_fmt, dst_colorspace=matrix, dst_color_range=limits)
            frame.pts, frame.time_base = round(second * 1000), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def moving(count: int, shape=(48, 64), seed=0) -> np.ndarray:
    """(T, H, W, 3) uint8: a coloured, smooth scene that shifts by two pixels a frame."""
    draw = np.random.default_rng(seed)
    wide = ndimage.gaussian_filter(draw.uniform(0, 255, (shape[0], shape[1] + 2 * count, 3)), (4, 4, 0))
    wide = (wide - wide.min()) / np.ptp(wide) * 215 + 20
    return np.stack([wide[:, 2 * at : 2 * at + shape[1]] for at in range(count)]).astype(np.uint8)


def save_frame(path: Path, shape=(48, 64), seed=0) -> Path:
    """A frame of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@dataclass(frozen=True)
class Read:
    """A source read into entries."""

    recipe: DrivingRecipe
    contract: Contract
    entries: list[Path]
    labels: list[Path]
    subjects: list[Subject]

    def crops(self, *, labelled=False, augment=False, **changes):
        recipe = self.recipe.changed({f"data.{key}": str(value) for key, value in changes.items()})
        labels = self.labels if labelled else None
        return DOMAIN.crops(self.entries, labels, self.subjects, self.contract, recipe, augment)


def read_all(candidates: list[Candidate], recipe, folder: Path) -> Read:
    contract = DOMAIN.plan([DOMAIN.inspect(candidate) for candidate in candidates], recipe)
    entries, labels, subjects = [], [], []
    for number, candidate in enumerate(candidates):
        raw = DOMAIN.read(candidate, recipe)
        entries.append(folder / f"image-{number}")
        entries[-1].mkdir(parents=True)
        facts = DOMAIN.write(raw, contract, entries[-1])
        if candidate.label is not None:
            labels.append(folder / f"label-{number}")
            labels[-1].mkdir(parents=True)
            DOMAIN.write_label(DOMAIN.read_label(candidate, raw, contract), contract, labels[-1])
        subjects.append(
            Subject(
                subject_id=str(number),
                group_id=candidate.group,
                split_bucket=0,
                entry="",
                content_digest="",
                facts=facts,
            )
        )
    return Read(recipe, contract, entries, labels, subjects)
