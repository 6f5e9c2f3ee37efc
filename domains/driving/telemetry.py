"""Ego-motion beside a recording: read from a file, joined to frames by time and never by number; gaps stay gaps.

`NAME.telemetry.csv` beside the recording NAME begins with `seconds,speed_m_per_s,steering_degrees,
yaw_rate_degrees_per_s`; an empty cell is a gap. Yaw rate and the angle of the steering wheel are positive to the left.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from domains.domain import Candidate
from domains.driving.attached import Attached
from domains.errors import Refused

SUFFIX = ".telemetry.csv"
CLOCK = "seconds"
ACTIONS = ("speed_m_per_s", "steering_degrees", "yaw_rate_degrees_per_s")
MOST_GAP_SECONDS = 0.5
"""Between two readings; across a longer gap nothing is known."""
SAME_SECONDS = 1e-6
"""Two times that differ by less are one."""
MOST_BYTES = 256 * 1024**2
"""Of a file: some days at 50 lines a second."""


@dataclass(frozen=True)
class Track:
    """Readings of one figure on their own clock."""

    seconds: np.ndarray
    """(N,) float64, strictly rising."""
    values: np.ndarray
    """(N,) float64, finite."""

    @classmethod
    def of(cls, seconds: np.ndarray, values: np.ndarray) -> Track:
        """Sorted by time; what is not finite is left out, and readings of one moment become their mean."""
        known = np.isfinite(seconds) & np.isfinite(values)
        moments, which, count = np.unique(seconds[known], return_inverse=True, return_counts=True)
        return cls(moments, np.bincount(which, values[known], len(moments)) / count)

    def at(self, times: np.ndarray, most_gap_seconds: float = MOST_GAP_SECONDS) -> np.ndarray:
        """(T,) float64 at `times` (T,), linear between the readings before and after.

        nan before the first reading, after the last one, and between two that are more than `most_gap_seconds` apart;
        at the moment of a reading it is that reading.
        """
        if len(self.seconds) == 0:
            return np.full(len(times), np.nan)
        found = np.interp(times, self.seconds, self.values)
        after = np.searchsorted(self.seconds, times).clip(max=len(self.seconds) - 1)
        before = np.maximum(0, after - 1)
        nearest = np.minimum(np.abs(times - self.seconds[after]), np.abs(times - self.seconds[before]))
        outside = (times < self.seconds[0]) | (times > self.seconds[-1])
        across = self.seconds[after] - self.seconds[before] > most_gap_seconds
        return np.where((outside | across) & (nearest > SAME_SECONDS), np.nan, found)


Telemetry = Mapping[str, Track]
"""Name, one of `ACTIONS` -> readings on the recording's clock; a figure that nobody measured is not there."""


def joined(telemetry: Telemetry, pts_seconds: np.ndarray) -> np.ndarray:
    """(T, A) float32: each of `ACTIONS` at each frame's time, nan where it is not known."""
    unknown = Track(np.zeros(0), np.zeros(0))
    return np.stack([telemetry.get(name, unknown).at(pts_seconds) for name in ACTIONS], axis=1).astype(np.float32)


def read_csv(path: Path, offset_seconds: float = 0.0) -> Telemetry:
    """The readings of a file.

    Args:
        path: of the file; columns that are not in `ACTIONS` are left aside.
        offset_seconds: added to its clock to get the recording's.

    Raises:
        Refused: not such a file, or nothing in it.
    """
    if path.stat().st_size > MOST_BYTES:
        raise Refused("absurdly long for telemetry")
    try:
        with path.open(newline="") as file:
            rows = csv.reader(file)
            names = [name.strip() for name in next(rows, [])]
            wanted = [name for name in ACTIONS if name in names]
            if CLOCK not in names or not wanted:
                raise Refused(f"telemetry begins with {CLOCK} and some of {', '.join(ACTIONS)}")
            columns = [names.index(name) for name in (CLOCK, *wanted)]
            table = [_numbers(row, columns, number) for number, row in enumerate(rows, 2) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"not a table as text ({type(error).__name__})") from None
    if not table:
        raise Refused("telemetry without a reading")
    seconds, *figures = np.array(table, np.float64).T
    return {name: Track.of(seconds + offset_seconds, figure) for name, figure in zip(wanted, figures, strict=True)}


def _numbers(row: Sequence[str], columns: Sequence[int], line: int) -> list[float]:
    cells = [row[at].strip() if at < len(row) else "" for at in columns]
    try:
        return [float(cell) if cell else np.nan for cell in cells]
    except ValueError:
        raise Refused(f"line {line} of the telemetry holds something else than numbers") from None


def read_comma2k19(folder: Path) -> tuple[Telemetry, np.ndarray]:
    """The readings of a segment of comma2k19, and the times (T,) of its frames on the same clock.

    Speed and steering come from the car's bus, each with its own times; the yaw rate from the gyroscope, whose axes
    are forward, right and down.

    Raises:
        Refused: an array is missing or is none.

    Source: Schafer et al. 2018 (arXiv 1812.05752).
    """
    log = folder / "processed_log"
    sources = {
        "speed_m_per_s": (log / "CAN" / "speed", lambda value: value[:, 0]),
        "steering_degrees": (log / "CAN" / "steering_angle", lambda value: value),
        "yaw_rate_degrees_per_s": (log / "IMU" / "gyro", lambda value: -np.degrees(value[:, 2])),
    }
    try:
        found = {
            name: Track.of(np.load(place / "t"), told(np.load(place / "value")))
            for name, (place, told) in sources.items()
        }
        return found, np.load(folder / "global_pose" / "frame_times")
    except (OSError, ValueError, IndexError) as error:
        raise Refused(f"not the arrays of comma2k19 ({type(error).__name__})") from None


def is_telemetry(path: Path) -> bool:
    """Whether a file holds telemetry, by its name."""
    return path.name.lower().endswith(SUFFIX)


def attach(candidates: Sequence[Candidate], files: Sequence[Path], offset_seconds: float) -> Attached:
    """Gives every recording the telemetry that lies beside it under its name; a damaged file is refused by itself."""
    done, free = Attached([]), set(files)
    for candidate in candidates:
        beside = candidate.images["video"].with_suffix(SUFFIX) if "video" in candidate.images else None
        if beside in free:
            free.discard(beside)
            try:
                read_csv(beside)
                notes = {**candidate.notes, "telemetry_offset_seconds": offset_seconds}
                candidate = replace(candidate, images={**candidate.images, "telemetry": beside}, notes=notes)
            except Refused as refusal:
                done.refused[beside] = refusal.reason
        done.candidates.append(candidate)
    done.ignored |= dict.fromkeys(free, "telemetry without its recording")
    return done
