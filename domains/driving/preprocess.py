"""From files to the store: decode and check, scale, write; the same for labels."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from domains.domain import Candidate
from domains.driving.box_labels import box_shapes
from domains.driving.clips import possible_starts, span_seconds
from domains.driving.entries import ACTIONS_FILE, PTS_FILE, STILL_FILE, Grid, covering
from domains.driving.labels import frame_label
from domains.driving.lane_labels import lane_shapes
from domains.driving.readers import image_frames
from domains.driving.recipes import DrivingData, settings
from domains.driving.recording import Place, write_recording
from domains.driving.shapes import Shapes
from domains.driving.telemetry import joined, read_csv
from domains.errors import ContractMismatch, Refused
from domains.manifest import Contract
from domains.recipe import Recipe, digest_of

PRIVACY = "none: faces and number plates are not blurred"
SHAPE_READERS = {"lanes": lane_shapes, "lane_mask": lane_shapes, "boxes": box_shapes}
"""What a candidate's notes call the kind of its label -> who reads it; any other is a mask of classes."""


@dataclass(frozen=True)
class Recording:
    """A still or a part of a recording, read: its entry is written already, since it is decoded only once."""

    scratch: tempfile.TemporaryDirectory[str]
    """Holds the entry's files, and goes away with this object unless `write` has moved them."""
    grid: Grid
    pts_seconds: np.ndarray
    """(T,) float64, from the recording's start."""
    place: Place
    size: tuple[int, int]
    """That the frames were scaled to cover."""
    facts: dict[str, Any]
    digest: str
    """sha256 of the decoded frames before scaling and of their times: equal whatever the container or codec."""
    stated: dict[str, Any]
    """When in its recording or drive it was, and the digest of its telemetry: no pixel tells that."""

    def frame_numbers(self) -> range:
        """The numbers of its frames in the whole recording, as label files count them.

        Raises:
            Refused: frames are missing, so that nobody knows which.
        """
        if missing := self.facts.get("missing_frames"):
            raise Refused(f"{missing} frames here cannot be decoded: labels by frame number have no place")
        return range(self.place.first_frame, self.place.first_frame + len(self.pts_seconds))


@dataclass(frozen=True)
class RawLabel:
    """Labels on the frames of a recording."""

    label: np.ndarray | Shapes
    """A mask (1, H, W) uint8 of a single frame on its native grid; lanes and boxes in pixels of the source."""
    recording: Recording
    digest: str


def read(candidate: Candidate, recipe: Recipe) -> Recording:
    """A candidate's frames, decoded once, checked, and scaled to just cover the recipe's size.

    Raises:
        Refused: a file cannot be decoded, there is no frame, or no clip lies between two gaps.
    """
    data = settings(recipe)
    size = data.height, data.width
    scratch = tempfile.TemporaryDirectory(prefix="selfsight-")
    if not data.clip_frames and "video" not in candidate.images:
        return _read_still(candidate, size, scratch)
    written = write_recording(candidate, size, Path(scratch.name))
    if data.clip_frames:
        _refuse_without_clip(written.pts_seconds, data)
    pts = written.pts_seconds
    time = {
        "recording": written.place.recording,
        "from_seconds": round(float(pts[0]), 3),
        "to_seconds": round(float(pts[-1]), 3),
    }
    facts = {**written.facts, "clock": candidate.notes.get("clock", "not known"), "privacy": PRIVACY, "time": time}
    stated: dict[str, Any] = {"time": time}
    if "telemetry" in candidate.images:
        readings = read_csv(candidate.images["telemetry"], candidate.notes["telemetry_offset_seconds"])
        actions = joined(readings, pts)
        np.save(Path(scratch.name) / ACTIONS_FILE, actions)
        facts["telemetry_share"] = round(float(np.isfinite(actions).all(1).mean()), 3)
        stated["telemetry"] = hashlib.sha256(actions.tobytes()).hexdigest()
    return Recording(scratch, written.grid, pts, written.place, size, facts, written.digest, stated)


def _read_still(candidate: Candidate, size: tuple[int, int], scratch: tempfile.TemporaryDirectory[str]) -> Recording:
    [frame] = image_frames(list(candidate.images.values()), candidate.notes.get("seconds", (0.0,)))
    native = frame.rgb.shape[0], frame.rgb.shape[1]
    grid = Grid(stored_shape=covering(native, size), native_shape=native)
    digest = hashlib.sha256(repr((frame.rgb.shape, 0.0)).encode() + np.ascontiguousarray(frame.rgb).tobytes())
    scaled = np.asarray(Image.fromarray(frame.rgb).resize(grid.stored_shape[::-1], Image.Resampling.BOX))
    folder, pts = Path(scratch.name), np.zeros(1)
    np.save(folder / STILL_FILE, scaled[None])
    np.save(folder / PTS_FILE, pts)
    grid.save(folder)
    grey = scaled.mean(-1)
    facts: dict[str, Any] = {
        "shape": list(native),
        "quality": {"brightness": round(float(grey.mean()), 2), "contrast": round(float(grey.std()), 2)},
        "privacy": PRIVACY,
    }
    stated = {}
    if candidate.notes.get("dated"):
        stated = {"time": {"recording": "", "from_seconds": frame.seconds, "to_seconds": frame.seconds}}
    return Recording(scratch, grid, pts, Place("", 0, 1), size, facts | stated, digest.hexdigest(), stated)


def write(raw: Recording, contract: Contract, folder: Path) -> dict[str, Any]:
    """Moves a subject entry (see `entries.py`) into place and gives its facts; once for each raw subject.

    Raises:
        ContractMismatch: it was read for another size.
    """
    wanted = tuple(contract.rules["size"])
    if raw.size != wanted:
        raise ContractMismatch(f"frames were read to cover {raw.size} pixels, the contract asks for {wanted}")
    for file in sorted(Path(raw.scratch.name).iterdir()):
        shutil.move(file, folder / file.name)
    return raw.facts


def read_label(candidate: Candidate, raw: Recording, contract: Contract) -> RawLabel:
    """The candidate's mask, as classes 0..num_classes-1 and 255, or its lanes, on its own frames.

    Raises:
        Refused: it cannot be read, does not fit its frames, or holds values that are no class.
    """
    assert candidate.label is not None
    if (read := SHAPE_READERS.get(candidate.notes.get("label_kind", ""))) is not None:
        shapes = read(candidate, raw.frame_numbers(), raw.place.recording_frames, raw.grid.native_shape)
        return RawLabel(shapes, raw, digest_of([raw.digest, shapes.digest]))
    values = candidate.notes.get("label_values")
    label = frame_label(candidate.label, raw.grid.native_shape, contract.num_classes, values)[None]
    digest = hashlib.sha256(repr((label.shape, raw.digest)).encode() + label.tobytes()).hexdigest()
    return RawLabel(label, raw, digest)


def write_label(raw: RawLabel, contract: Contract, folder: Path) -> dict[str, Any]:
    """Writes a label entry (see `entries.py`, `shapes.py`) and gives its facts: how much is labelled as what."""
    label, grid = raw.label, raw.recording.grid
    grid.save(folder)
    if isinstance(label, Shapes):
        label.save(folder)
        kinds = Counter(shape.kind for shape in label)
        return {"labelled_frames": len(label.labelled), "shapes": [kinds[n] for n in range(contract.num_classes)]}
    np.save(folder / "native.npy", label[0])
    np.save(folder / "label.npy", scaled_label(label[0], grid.stored_shape)[None])
    counts = np.bincount(label.ravel(), minlength=256)
    labelled = int(counts[: contract.num_classes].sum())
    return {
        "class_fractions": [round(int(c) / max(1, labelled), 5) for c in counts[: contract.num_classes]],
        "labelled_share": round(labelled / label.size, 5),
    }


def scaled_label(label: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 -> (*shape) by the nearest pixel."""
    return np.asarray(Image.fromarray(label).resize(shape[::-1], Image.Resampling.NEAREST))


def _refuse_without_clip(pts_seconds: np.ndarray, data: DrivingData) -> None:
    if len(possible_starts(pts_seconds, data.clip_frames, data.frames_per_second)):
        return
    span = span_seconds(data.clip_frames, data.frames_per_second)
    seconds = float(pts_seconds[-1] - pts_seconds[0])
    if seconds + 0.5 / data.frames_per_second < span:
        raise Refused(f"{seconds:.2f} s long: shorter than a clip of {span:.2f} s")
    step = float(np.median(np.diff(pts_seconds)))
    raise Refused(f"no clip of {span:.2f} s without a gap: its frames are {step:.2f} s apart")
