"""Prediction on a recording as a stream, against its slowest step alone, and its memory on a ten times longer one."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from subprocess import run as process
from typing import Any

import numpy as np

SECONDS, LONGER, RATE, SHAPE = 8, 10, 25, (360, 640)


def recording(path: Path, seconds: int) -> None:
    """A generated H.264 file: moving stripes and noise, as hard to decode as a road."""
    from domains.driving.overlay_video import OverlayVideo

    height, width = SHAPE
    draw, across = np.random.default_rng(0), np.arange(width)
    noise = draw.integers(0, 40, (height, width, 3), np.uint8)
    with OverlayVideo(path) as video:
        for number in range(seconds * RATE):
            stripes = (120 + 80 * np.sin((across + 3 * number) / 25)).astype(np.uint8)
            video.write(np.roll(noise, number, 1) + stripes[None, :, None], number / RATE)


def once(path: Path, out: Path) -> dict[str, Any]:
    """Seconds of the whole stream and of each step by itself, with a lanes model of the recipe's size."""
    from domains.domain import Candidate, find_recipe
    from domains.driving.heads import lanes, per_frame
    from domains.driving.overlay_video import OverlayVideo
    from domains.driving.stream import seen_frames, stream
    from pipelines.models import inference, new_model

    domain, recipe = find_recipe("dashcam_lanes")
    candidate = Candidate("drive", "drive", {"video": path})
    contract = domain.plan([domain.inspect(candidate)], recipe)
    model = new_model(recipe, contract).eval()

    def predict(frames: np.ndarray, native: tuple[int, int]) -> list[np.ndarray]:
        with inference(recipe.precision):
            return lanes.of_frames(model, frames, contract, native)

    seen = list(islice(seen_frames(candidate, Counter(), contract), 64))
    said = predict(np.stack([one.stored for one in seen[:4]]), SHAPE)

    def decode() -> None:
        for _ in seen_frames(candidate, Counter(), contract):
            pass

    def ask() -> None:
        for start in range(0, SECONDS * RATE, 4):
            predict(np.stack([seen[(start + i) % len(seen)].stored for i in range(4)]), SHAPE)

    def draw() -> None:
        says = per_frame(recipe)
        with OverlayVideo(out / "alone.mp4") as video:
            for number in range(SECONDS * RATE):
                video.write(says.drawn(seen[number % len(seen)].rgb, said[number % 4], contract), number / RATE)

    steps = {"decode": took(decode), "model": took(ask), "draw_and_write": took(draw)}
    whole = took(lambda: stream(candidate, predict, contract, recipe, out))
    return {"whole": whole, **steps}


def took(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run() -> dict[str, float]:
    """Share of the slowest step's speed that the whole has, frames a second, and growth of memory with ten times the
    length (each length in a process of its own)."""
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for length in (SECONDS, SECONDS * LONGER):
            path = Path(folder) / f"{length}.mp4"
            recording(path, length)
            answer = process([sys.executable, __file__, str(path), folder], capture_output=True, text=True, check=True)
            found.append(json.loads(answer.stdout.splitlines()[-1]))
    short, long = found
    steps = {name: value for name, value in short.items() if name not in ("whole", "peak_mb")}
    return {
        "frames_per_second": round(SECONDS * RATE / short["whole"], 1),
        "of_the_slowest_step_alone": round(max(steps.values()) / short["whole"], 2),
        "of_all_steps_one_after_the_other": round(sum(steps.values()) / short["whole"], 2),
        **{f"seconds_of_{name}": round(value, 2) for name, value in steps.items()},
        "memory_at_ten_times_the_length": round(long["peak_mb"] / short["peak_mb"], 3),
    }


if __name__ == "__main__":
    if len(sys.argv) == 3:
        figures = once(Path(sys.argv[1]), Path(sys.argv[2]))
        print(json.dumps({**figures, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
    else:
        print(json.dumps(run()))
