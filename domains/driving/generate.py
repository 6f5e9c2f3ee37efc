"""A generated archive: frames with masks as in CamVid, and recordings with lanes, boxes and telemetry beside them.

`images/drive000_000000.png` ... with masks of the same names in `masks/`, `images/drive000.lanes.jsonl`,
`boxes_coco.json`, and what the mask values mean in `classes.txt`; `recordings/road000.mp4` with `.lanes.jsonl`,
`.boxes.json` and `.telemetry.csv`. How they are drawn: `drives/`; what they contain: docs/drives.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from domains.driving.classes import ROAD_CLASSES
from domains.driving.drives.motion import Motion
from domains.driving.drives.render import BOXED, Box, draw_frame, lanes
from domains.driving.drives.scene import Scene, draw_scene

FRAMES_PER_DRIVE, FRAMES_PER_RECORDING = 10, 20
NUMBERS_PER_FRAME = 3
"""File numbers count thirtieths of a second; ten frames a second are taken."""
SIZE = (240, 320)
SIZES, SIZE_SHARES = ((180, 320), (270, 480), (360, 640)), (0.7, 0.2, 0.1)
"""(H, W) of recordings, and how often each is taken."""
RATES = (10, 15, 20, 25)
SECONDS = (10.0, 15.0)
LEAD_SECONDS = 1.5
"""The car drives before the recording begins, and telemetry may begin with it."""
TELEMETRY_HZ, JITTER_SECONDS = 50, 0.003
TELEMETRY_NOISE = {"speed_m_per_s": 0.02, "steering_degrees": 0.05, "yaw_rate_degrees_per_s": 0.05}
LANE_ROWS = 26
"""At which lanes are given, from above the horizon to the lower edge."""


def generate(folder: Path, subjects: int, seed: int) -> None:
    """Writes `subjects` frames, ten a drive, and a recording for every twenty; the same for the same seed."""
    offset = round(float(np.random.default_rng([seed, 1]).uniform(-20, 20)), 3)
    folder.mkdir(parents=True, exist_ok=True)
    text = f"namespace: drives-{seed}\nlicence: generated\norigin: selfsight, no road behind it\n"
    (folder / "dataset.yaml").write_text(text + f"telemetry_offset_seconds: {offset}\n")
    write_frames(folder, subjects, seed)
    for number in range(subjects // FRAMES_PER_RECORDING):
        write_recording(folder / "recordings", f"road{number:03d}", [seed, 2, number], offset)


def write_frames(folder: Path, frames: int, seed: int) -> None:
    """Single frames with masks, lanes and boxes below `folder`; every other drive goes through streets."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    seen: list[tuple[dict[str, Any], tuple[Box, ...]]] = []
    for first in range(0, frames, FRAMES_PER_DRIVE):
        drive = first // FRAMES_PER_DRIVE
        draw = np.random.default_rng([seed, 0, drive])
        scene = draw_scene(draw, SIZE, 4.0, "street" if drive % 2 == 0 else None)
        times = float(draw.uniform(0, 2.9)) + np.arange(min(FRAMES_PER_DRIVE, frames - first)) / 10
        for number, seconds in enumerate(times.tolist()):
            frame = draw_frame(scene, seconds)
            name = f"drive{drive:03d}_{number * NUMBERS_PER_FRAME:06d}.png"
            Image.fromarray(frame.image).save(folder / "images" / name, compress_level=1)
            Image.fromarray(frame.classes).save(folder / "masks" / name)
            seen.append(({"file_name": f"images/{name}"}, frame.boxes))
        _write_lanes(folder / "images" / f"drive{drive:03d}.lanes.jsonl", scene, times.tolist())
    (folder / "boxes_coco.json").write_text(json.dumps(_coco(seen, SIZE)))
    (folder / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(ROAD_CLASSES)))


def write_recording(
    folder: Path, name: str, seed: Sequence[int], telemetry_offset_seconds: float, kind: str | None = None,
    light: str | None = None, seconds: float | None = None,
) -> tuple[Scene, list[float]]:  # fmt: skip
    """A recording of a drive of its own with what is true of it; gives the drive and the time of each frame in it.

    Args:
        folder: where to write.
        name: of the files, without suffix.
        seed: of everything.
        telemetry_offset_seconds: what one adds to a time of the telemetry to get that of the recording.
        kind: of road; None draws it.
        light: of `weather.SHARES`; None draws it.
        seconds: how long it lasts, 4 or more; None draws it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    size, rate = SIZES[draw.choice(len(SIZES), p=SIZE_SHARES)], int(draw.choice(RATES))
    long = seconds or float(draw.uniform(*SECONDS))
    scene = draw_scene(draw, size, LEAD_SECONDS + long + 1, kind, light)
    times = [LEAD_SECONDS + number / rate for number in range(int(long * rate))]
    seen = []

    def images() -> Iterable[np.ndarray]:
        for number, seconds in enumerate(times):
            frame = draw_frame(scene, seconds)
            seen.append(({"frame": number}, frame.boxes))
            yield frame.image

    write_video(folder / f"{name}.mp4", images(), size, rate)
    _write_lanes(folder / f"{name}.lanes.jsonl", scene, times)
    (folder / f"{name}.boxes.json").write_text(json.dumps(_coco(seen, size)))
    write_telemetry(folder / f"{name}.telemetry.csv", scene.motion, telemetry_offset_seconds, draw)
    return scene, times


def write_video(path: Path, images: Iterable[np.ndarray], shape: tuple[int, int], rate: int) -> None:
    """An MP4 (H.264) of frames (H, W, 3) uint8, `rate` a second; the same bytes for the same frames."""
    with av.open(str(path), "w") as container:
        # x264's look-ahead reads memory that nobody has written, so that its bytes differ from run to run: do without
        options = {"preset": "veryfast", "crf": "21", "tune": "zerolatency"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *shape, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, rate)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def lane_rows(height: int) -> list[int]:
    """Rows at which lanes are given in frames of a height."""
    rows: list[int] = np.linspace(0.42 * height, height - 2, LANE_ROWS).round().astype(int).tolist()
    return rows


def _write_lanes(path: Path, scene: Scene, times: Sequence[float]) -> None:
    rows = lane_rows(scene.camera.shape[0])
    lines = [
        json.dumps({"frame": number, "lanes": lanes(scene, seconds, np.array(rows)), "h_samples": rows})
        for number, seconds in enumerate(times)
    ]
    path.write_text("\n".join(lines) + "\n")


def _coco(seen: Sequence[tuple[dict[str, Any], tuple[Box, ...]]], shape: tuple[int, int]) -> dict[str, Any]:
    """Boxes of images in the form of COCO; each image says which it is by its own keys."""
    names = list(BOXED.values())
    images = [{"id": at + 1, "height": shape[0], "width": shape[1], **which} for at, (which, _) in enumerate(seen)]
    annotations: list[dict[str, Any]] = []
    for at, (_, boxes) in enumerate(seen):
        for box in boxes:
            wide, tall = box.right - box.left, box.bottom - box.top
            about = {"id": len(annotations) + 1, "image_id": at + 1, "category_id": names.index(box.category) + 1}
            annotations.append({**about, "bbox": [box.left, box.top, wide, tall], "area": wide * tall, "iscrowd": 0})
    categories = [{"id": at, "name": name} for at, name in enumerate(names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_telemetry(path: Path, motion: Motion, offset_seconds: float, draw: np.random.Generator) -> None:
    """What a logger of its own would have written: other clock, other rate, jitter, a gap, empty cells, disorder."""
    begin, end = draw.uniform(-1.2, 0.3), motion.seconds[-1] - LEAD_SECONDS - draw.uniform(0, 0.4)
    times = np.arange(begin, end, 1 / TELEMETRY_HZ)
    gap = draw.uniform(0.3, 0.6) * end
    times = times[(times < gap) | (times > gap + draw.uniform(0.7, 1.5))]
    columns = [motion.at(name, times + LEAD_SECONDS) + draw.normal(0, noise, len(times))
               for name, noise in TELEMETRY_NOISE.items()]  # fmt: skip
    stamps = times + draw.uniform(-JITTER_SECONDS, JITTER_SECONDS, len(times)) - offset_seconds
    rows = [[f"{stamp:.4f}", *(f"{value:.4f}" for value in row)] for stamp, *row in zip(stamps, *columns, strict=True)]
    for at in draw.integers(len(rows), size=6):
        rows[at][draw.integers(1, 4)] = ""
    swapped, again = (int(at) for at in draw.integers(1, len(rows), size=2))
    rows[swapped - 1 : swapped + 1] = [rows[swapped], rows[swapped - 1]]
    rows.insert(again, rows[again])
    path.write_text("\n".join([",".join(["seconds", *TELEMETRY_NOISE]), *(",".join(row) for row in rows)]) + "\n")
