"""A model on a recording as a stream: decoding, the model and drawing overlap, and a few frames are all that is held.

Beside the overlay video it writes a line a frame, the worst moments (where the model was least sure), how long each
step took, and a contact sheet. Memory does not grow with the length of the recording.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from domains.domain import Candidate, FramePredictor
from domains.driving.ahead import ahead
from domains.driving.clips import nearest
from domains.driving.entries import covering
from domains.driving.heads import PerFrame, per_frame
from domains.driving.latency import Latency
from domains.driving.moments import Spread, Worst, contact_sheet
from domains.driving.overlay_video import OverlayVideo
from domains.driving.parts import PART_MARK
from domains.driving.recording import even, source_pictures
from domains.driving.stored_video import Scaler
from domains.errors import Refused
from domains.manifest import Contract
from domains.recipe import Recipe

FRAMES_AT_ONCE = 4
"""That a model of single frames gets together."""
AHEAD = 2
"""Batches that each step may be in front of the next one."""
WORST, WORST_APART_SECONDS = 8, 1.0
"""Moments that are listed, and how far two of them are apart at least."""
LINES = {"lanes": "lanes", "obstacles": "boxes", "road_scene": "road"}
"""Head -> what its lines of JSON are called; those of lanes can be a label file as they are."""
SPREAD = 8
"""Frames of a contact sheet, at least."""


@dataclass(frozen=True)
class Seen:
    """A decoded frame."""

    rgb: np.ndarray
    """(H, W, 3) uint8 as in the source, upright."""
    stored: np.ndarray
    """The same on the stored grid, as a model gets it."""
    seconds: float


@dataclass(frozen=True)
class Said:
    """A frame and what the head says of it."""

    frame: Seen
    prediction: Any


def stream(
    recording: Candidate, predict: FramePredictor, contract: Contract, recipe: Recipe, folder: Path
) -> list[Path]:
    """Writes what a model says of every frame of a recording, as a stream.

    `<name>_overlay.mp4` has the source's size and times; `<name>.lanes.jsonl`, `.boxes.jsonl` or `.road.jsonl` a line a
    frame with `pts_seconds` (from the first frame) and the head's findings in source pixels; `<name>_summary.json` the
    worst moments, the latency of each step and what was wrong with the file; `<name>_contact.png` a sheet of frames.

    Args:
        recording: a video file, or numbered frames; its name is that of the outputs below the folder.
        predict: the model.
        contract: of the model.
        recipe: of the model.
        folder: where to write.

    Raises:
        Refused: it cannot be read, or has no frame.
    """
    place, damage, latency = folder / recording.name, Counter[str](), Latency()
    frames = seen_frames(recording, damage, contract)
    batches = _clips(frames, contract) if contract.time_axis else _few(frames)
    decoded = ahead(latency.timed("decode", batches, len), AHEAD)
    said = ahead(_said(decoded, predict, contract, latency), AHEAD)
    ends = ("_overlay.mp4", f".{LINES[recipe.head]}.jsonl", "_summary.json", "_contact.png")
    place.parent.mkdir(parents=True, exist_ok=True)
    video, lines, summary, sheet = (place.with_name(f"{place.name}{end}") for end in ends)
    spread, worst = Spread(SPREAD), Worst(WORST, WORST_APART_SECONDS)
    try:
        with OverlayVideo(video) as overlay, lines.open("w") as out:
            number, last = _drawn(said, per_frame(recipe), contract, overlay, out, (spread, worst), latency)
        if not number:
            raise Refused("no frame could be decoded")
    except Refused:
        video.unlink(missing_ok=True)
        lines.unlink(missing_ok=True)
        raise
    facts = {
        "frames": number, "seconds": round(last, 3), "head": recipe.head, "damage": dict(damage),
        "milliseconds_per_frame": latency.percentiles(), "worst_moments": worst.listed(),
    }  # fmt: skip
    summary.write_text(json.dumps(facts, indent=1) + "\n")
    sheet.write_bytes(contact_sheet(spread.moments(), worst.moments()))
    return [video, lines, summary, sheet]


def _drawn(
    said: Iterable[Sequence[Said]], says: PerFrame, contract: Contract, overlay: OverlayVideo, out: Any,
    kept: Sequence[Spread | Worst], latency: Latency,
) -> tuple[int, float]:  # fmt: skip
    """Draws and writes; how many frames there were, and the last one's seconds from the first."""
    first, number, seconds = None, 0, 0.0
    for batch in said:
        started = time.perf_counter()
        for one in batch:
            first = one.frame.seconds if first is None else first
            seconds = one.frame.seconds - first
            drawn = says.drawn(one.frame.rgb, one.prediction, contract)
            overlay.write(drawn, seconds)
            line = {"frame": number, "pts_seconds": round(seconds, 6), **says.as_json(one.prediction)}
            out.write(json.dumps(line) + "\n")
            for keeper in kept:
                keeper.see(number, seconds, says.confidence(one.prediction), drawn)
            number += 1
        latency.add("draw and write", time.perf_counter() - started, len(batch))
    return number, seconds


def _said(
    decoded: Iterable[Sequence[Seen]], predict: FramePredictor, contract: Contract, latency: Latency
) -> Iterator[list[Said]]:
    """What the model says of each frame; of a clip's, which are the nearest to its times, also of those between."""
    for frames in decoded:
        started = time.perf_counter()
        chosen = np.arange(len(frames))
        pts = np.array([frame.seconds for frame in frames])
        if contract.time_axis:
            times = pts[0] + np.arange(contract.crop_shape[0]) / contract.rules["frames_per_second"]
            chosen = nearest(pts, times)
        height, width = frames[0].rgb.shape[:2]
        found = predict(np.stack([frames[i].stored for i in chosen.tolist()]), (height, width))
        latency.add("model", time.perf_counter() - started, len(frames))
        at = nearest(pts[chosen], pts) if contract.time_axis else chosen
        yield [Said(frame, found[int(i)]) for frame, i in zip(frames, at, strict=True)]


def whole(candidate: Candidate) -> Candidate | None:
    """The video file that a candidate is a part of; numbered frames as they are; None of a still."""
    if "frame" in candidate.images:
        return None
    notes = {name: note for name, note in candidate.notes.items() if name != "part"}
    name = candidate.name.rpartition(PART_MARK)[0] if "part" in candidate.notes else candidate.name
    return replace(candidate, name=name or candidate.name, notes=notes)


def seen_frames(recording: Candidate, damage: Counter[str], contract: Contract) -> Iterator[Seen]:
    """Every frame of a recording, in the source's size and on the stored grid; `damage` as in `pictures`."""
    size, scaler = contract.rules["size"], None
    for picture in source_pictures(recording, damage):
        rgb = picture.rgb
        if scaler is None:
            scaler = Scaler(even(covering((rgb.shape[0], rgb.shape[1]), (size[0], size[1]))))
        yield Seen(rgb, scaler.rgb(picture.frame, picture.rotation), picture.seconds)


def _few(frames: Iterable[Seen]) -> Iterator[list[Seen]]:
    batch: list[Seen] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == FRAMES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _clips(frames: Iterable[Seen], contract: Contract) -> Iterator[list[Seen]]:
    """Frames as long as a clip of the contract lasts; the last clip may be shorter."""
    span = contract.crop_shape[0] / contract.rules["frames_per_second"]
    batch: list[Seen] = []
    for frame in frames:
        if batch and frame.seconds - batch[0].seconds >= span - 1e-6:
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch
