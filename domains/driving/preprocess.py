"""From files to the store: decode and check, scale, write arrays; the same for labels."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from domains.domain import Candidate
from domains.driving.clips import possible_starts, span_seconds
from domains.driving.entries import Grid
from domains.driving.labels import frame_label
from domains.driving.lane_labels import lane_shapes
from domains.driving.readers import Frame, image_frames, video_frames
from domains.driving.recipes import DrivingData, settings
from domains.driving.shapes import Shapes
from domains.errors import ContractMismatch, Refused
from domains.manifest import Contract
from domains.recipe import Recipe, digest_of

MOST_BYTES = 2 * 1024**3
"""Of a recording's scaled frames, which are held in memory together."""
PRIVACY = "none: faces and number plates are not blurred"
SHAPE_READERS = {"lanes": lane_shapes, "lane_mask": lane_shapes}
"""What a candidate's notes call the kind of its label -> who reads it; any other is a mask of classes."""


@dataclass(frozen=True)
class Recording:
    """Decoded frames, scaled; a single frame is a recording of one."""

    frames: np.ndarray
    """(T, H, W, 3) uint8."""
    pts_seconds: np.ndarray
    """(T,) float64, from the first frame."""
    native_shape: tuple[int, int]
    size: tuple[int, int]
    """That the frames were scaled to cover."""
    facts: dict[str, Any]
    digest: str
    """sha256 of the decoded frames before scaling and of their times: equal whatever the container or codec."""


@dataclass(frozen=True)
class RawLabel:
    """Labels on the frames of a recording."""

    label: np.ndarray | Shapes
    """A mask (1, H, W) uint8 of a single frame on its native grid; lanes in pixels of the source."""
    recording: Recording
    digest: str


def read(candidate: Candidate, recipe: Recipe) -> Recording:
    """The decoded frames of a candidate, scaled to just cover the recipe's size.

    Raises:
        Refused: a file cannot be decoded, there is no frame, or no clip lies between two gaps.
    """
    data, damage = settings(recipe), Counter[str]()
    if "video" in candidate.images:
        frames: Iterable[Frame] = video_frames(candidate.images["video"], damage)
    else:
        paths = list(candidate.images.values())
        frames = image_frames(paths, candidate.notes.get("seconds", range(len(paths))))
    recording = _gathered(frames, (data.height, data.width))
    if data.clip_frames:
        _refuse_without_clip(recording.pts_seconds, data)
    facts = recording.facts | ({"clock": candidate.notes.get("clock", "not known")} if data.clip_frames else {})
    facts |= {
        name: damage[name] for name in ("corrupt_frames", "lost_packets", "frames_out_of_order") if data.clip_frames
    }
    return Recording(**(vars(recording) | {"facts": facts | {"privacy": PRIVACY}}))


def write(raw: Recording, contract: Contract, folder: Path) -> dict[str, Any]:
    """Writes a subject entry (see `entries.py`) and gives its facts.

    Raises:
        ContractMismatch: it was read for another size.
    """
    wanted = tuple(contract.rules["size"])
    if raw.size != wanted:
        raise ContractMismatch(f"frames were read to cover {raw.size} pixels, the contract asks for {wanted}")
    np.save(folder / "frames.npy", raw.frames)
    np.save(folder / "pts_seconds.npy", raw.pts_seconds)
    _grid(raw).save(folder)
    return raw.facts


def read_label(candidate: Candidate, raw: Recording, contract: Contract) -> RawLabel:
    """The candidate's mask, as classes 0..num_classes-1 and 255, or its lanes, on its own frames.

    Raises:
        Refused: it cannot be read, does not fit its frames, or holds values that are no class.
    """
    assert candidate.label is not None
    if (read := SHAPE_READERS.get(candidate.notes.get("label_kind", "mask"))) is not None:
        count = len(raw.frames)
        shapes = read(candidate, range(count), count, raw.native_shape)
        return RawLabel(shapes, raw, digest_of([raw.digest, shapes.digest]))
    values = candidate.notes.get("label_values")
    label = frame_label(candidate.label, raw.native_shape, contract.num_classes, values)[None]
    digest = hashlib.sha256(repr((label.shape, raw.digest)).encode() + label.tobytes()).hexdigest()
    return RawLabel(label, raw, digest)


def write_label(raw: RawLabel, contract: Contract, folder: Path) -> dict[str, Any]:
    """Writes a label entry (see `entries.py`, `shapes.py`) and gives its facts: how much is labelled as what."""
    label = raw.label
    _grid(raw.recording).save(folder)
    if isinstance(label, Shapes):
        label.save(folder)
        kinds = Counter(shape.kind for shape in label)
        return {"labelled_frames": len(label.labelled), "shapes": [kinds[n] for n in range(contract.num_classes)]}
    np.save(folder / "native.npy", label[0])
    np.save(folder / "label.npy", scaled_label(label[0], raw.recording.frames.shape[1:3])[None])
    counts = np.bincount(label.ravel(), minlength=256)
    labelled = int(counts[: contract.num_classes].sum())
    return {
        "class_fractions": [round(int(c) / max(1, labelled), 5) for c in counts[: contract.num_classes]],
        "labelled_share": round(labelled / label.size, 5),
    }


def covering(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of a frame scaled until it just covers `size`, its aspect kept to within a pixel."""
    scale = max(wanted / length for wanted, length in zip(size, shape, strict=True))
    return max(size[0], round(shape[0] * scale)), max(size[1], round(shape[1] * scale))


def scaled_label(label: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 -> (*shape) by the nearest pixel."""
    return np.asarray(Image.fromarray(label).resize(shape[::-1], Image.Resampling.NEAREST))


def _grid(raw: Recording) -> Grid:
    return Grid(stored_shape=(raw.frames.shape[1], raw.frames.shape[2]), native_shape=raw.native_shape)


def _gathered(frames: Iterable[Frame], size: tuple[int, int]) -> Recording:
    """One pass over the frames, so that only scaled ones are held."""
    digest = hashlib.sha256()
    scaled: list[np.ndarray] = []
    seconds: list[float] = []
    native: tuple[int, int] | None = None
    for frame in frames:
        height, width = frame.rgb.shape[:2]
        if native is not None and native != (height, width):
            raise Refused("its frames differ in size")
        native = height, width
        shape = covering(native, size)
        if (len(scaled) + 1) * shape[0] * shape[1] * 3 > MOST_BYTES:
            raise Refused("too long to be read at once: cut it into parts")
        digest.update(repr((frame.rgb.shape, round(frame.seconds - (seconds or [frame.seconds])[0], 6))).encode())
        digest.update(np.ascontiguousarray(frame.rgb).tobytes())
        scaled.append(np.asarray(Image.fromarray(frame.rgb).resize(shape[::-1], Image.Resampling.BOX)))
        seconds.append(frame.seconds)
    if native is None:
        raise Refused("no frame could be decoded")
    stacked, pts = np.stack(scaled), np.array(seconds, np.float64) - seconds[0]
    return Recording(stacked, pts, native, size, _facts(stacked, pts, native), digest.hexdigest())


def _facts(frames: np.ndarray, pts_seconds: np.ndarray, native: tuple[int, int]) -> dict[str, Any]:
    """What the data quality sheet shows."""
    facts: dict[str, Any] = {"shape": list(native)}
    if len(frames) > 1:
        steps = np.diff(pts_seconds)
        facts |= {
            "frames": len(frames),
            "seconds": round(float(pts_seconds[-1]), 3),
            "frames_per_second": round(1 / float(np.median(steps)), 3),
            "longest_step_seconds": round(float(steps.max()), 3),
        }
    some = frames[:: max(1, len(frames) // 16)].mean(-1)
    facts["quality"] = {
        "brightness": round(float(some.mean()), 2),
        "contrast": round(float(some.std((1, 2)).mean()), 2),
    }
    return facts


def _refuse_without_clip(pts_seconds: np.ndarray, data: DrivingData) -> None:
    if len(possible_starts(pts_seconds, data.clip_frames, data.frames_per_second)):
        return
    span = span_seconds(data.clip_frames, data.frames_per_second)
    if pts_seconds[-1] + 0.5 / data.frames_per_second < span:
        raise Refused(f"{pts_seconds[-1]:.2f} s long: shorter than a clip of {span:.2f} s")
    step = float(np.median(np.diff(pts_seconds)))
    raise Refused(f"no clip of {span:.2f} s without a gap: its frames are {step:.2f} s apart")
