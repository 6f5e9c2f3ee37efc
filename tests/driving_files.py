"""Small videos and frames with chosen content, and drives read into entries."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from domains.domain import Candidate
from domains.driving import DOMAIN
from domains.driving.recipes import DrivingRecipe
from domains.manifest import Contract, Subject


def write_video(path: Path, seconds, shape=(48, 64), seed=0, still=None) -> np.ndarray:
    """An mp4 whose frame i is evenly grey (its level tells which it is) at each of `seconds`; gives the levels.

    With `still`, (H, W, 3) uint8, every frame shows that instead, lit a little differently.
    """
    levels = (np.arange(len(seconds)) * 37 + seed) % 200 + 20
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = shape[1], shape[0], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.bit_rate, stream.codec_context.thread_count = 4_000_000, 1
        for level, second in zip(levels, seconds, strict=True):
            shown = (
                np.full((*shape, 3), level, np.uint8)
                if still is None
                else (still * (0.7 + 0.3 * level / 220)).astype(np.uint8)
            )
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = round(second * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return levels


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
