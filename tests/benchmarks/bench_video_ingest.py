"""Recordings into the store: transcoding against ffmpeg's command line, the index against demuxing, memory by length.

Transcoding is the reading of the parts of two recordings on two threads, hashing and measuring included; ffmpeg does
the same scaling and encoding on two threads where it is installed. (One recording is five parts: the last would be
alone.) Memory is the peak, above that of the imports, of a process that takes in one minute and of one that takes in
an hour of small frames. Prints one JSON object.
"""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av

from domains.domain import Candidate
from domains.driving.parts import cut
from domains.driving.recipes import DrivingData
from domains.driving.recording import write_recording
from domains.driving.stored_video import ENCODER
from domains.driving.video import _index, video_index

SECONDS, SHAPE, SIZE, RECORDINGS = 20, (720, 1280), (240, 320), 2
SMALL, MINUTES = (48, 64), (1, 60)
TAKE_IN = """
import sys, tempfile
from pathlib import Path
from domains.domain import Candidate
from domains.driving.parts import cut
from domains.driving.recipes import DrivingData
from domains.driving.recording import write_recording
def megabytes(line):
    return int(next(row for row in open("/proc/self/status") if row.startswith(line)).split()[1]) / 1024
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, behind that of the imports
began = megabytes("VmRSS")
for part in cut(Candidate("d", "d", {"video": Path(sys.argv[1])}), DrivingData()):
    with tempfile.TemporaryDirectory() as name:
        write_recording(part, (48, 64), Path(name))
print(megabytes("VmHWM") - began)
"""


def run() -> dict[str, Any]:
    """Frames a second, ratios and megabytes."""
    write_drive = runpy.run_path(str(Path(__file__).with_name("bench_video_clips.py")))["write_drive"]
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "drive.mp4"
        write_drive(source, SECONDS, SHAPE)
        frames = len(video_index(source).pts_seconds)
        seconds = {
            "ours": _timed(lambda: _take_in([source] * RECORDINGS)),
            "ffmpeg": _timed(lambda: _ffmpeg([source] * RECORDINGS, Path(name))) if shutil.which("ffmpeg") else None,
        }
        rates = {who: round(RECORDINGS * frames / spent, 1) if spent else None for who, spent in seconds.items()}
        demux, index = min(_timed(lambda: _demux(source)) for _ in range(5)), []
        for _ in range(5):
            _index.cache_clear()
            index.append(_timed(lambda: video_index(source)))
        peaks = {}
        for minutes in MINUTES:
            path = Path(name) / f"{minutes}.mp4"
            write_drive(path, 60 * minutes, SMALL, "mpeg4")
            done = subprocess.run(
                [sys.executable, "-c", TAKE_IN, str(path)], capture_output=True, text=True, check=True
            )
            peaks[minutes] = float(done.stdout)
    return {
        "transcoded_frames_per_second": rates,
        "ours_over_ffmpeg": round(rates["ours"] / rates["ffmpeg"], 2) if rates["ffmpeg"] else "no ffmpeg here",
        "index_over_demux_seconds": round(min(index) / demux, 2),
        "megabytes_above_the_imports_by_minutes": {minutes: round(peak, 1) for minutes, peak in peaks.items()},
        "megabytes_60_above_1_minute": round(peaks[60] - peaks[1], 1),
    }


def _take_in(sources: list[Path]) -> None:
    def one(part: Candidate) -> None:
        with tempfile.TemporaryDirectory() as name:
            write_recording(part, SIZE, Path(name))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, [part for s in sources for part in cut(Candidate("d", "d", {"video": s}), DrivingData())]))


def _ffmpeg(sources: list[Path], folder: Path) -> None:
    options = [text for key, value in ENCODER.items() for text in (f"-{key}", value)]
    scale = f"scale=-2:{SIZE[0]}:flags=area"
    for source in sources:
        subprocess.run(
            ["ffmpeg", "-v", "error", "-y", "-threads", "2", "-i", str(source), "-an", "-vf", scale,
             "-c:v", "libx264", *options, "-threads", "2", str(folder / "out.mp4")], check=True,
        )  # fmt: skip


def _demux(source: Path) -> None:
    with av.open(str(source)) as container:
        for _ in container.demux(video=0):
            pass


def _timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(run()))
