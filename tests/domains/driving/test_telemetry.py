"""Telemetry: by time and not by number, gaps stay gaps, clocks that disagree; from the file to a batch's actions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from driving_files import moving, read_all, write_frames
from scipy import ndimage

from domains.driving import DOMAIN
from domains.driving.drives.scene import draw_scene
from domains.driving.generate import LEAD_SECONDS, write_telemetry
from domains.driving.recipes import RECIPES
from domains.driving.telemetry import ACTIONS, Track, joined, read_comma2k19, read_csv
from domains.errors import Refused

HEADER = "seconds,speed_m_per_s,steering_degrees,yaw_rate_degrees_per_s\n"
SMALL = {"data.height": "48", "data.width": "64", "data.crop_height": "48", "data.crop_width": "64"}
CLIPS = RECIPES["dashcam_lanes"].changed({**SMALL, "data.clip_frames": "8"})


def track(pairs):
    return Track.of(*np.array(pairs, np.float64).T)


def test_track__between_two_readings_by_time():
    found = track([(0, 0), (0.1, 10), (0.4, 40)]).at(np.array([-0.1, 0, 0.05, 0.3, 0.4, 0.5]))
    assert np.allclose(found, [np.nan, 0, 5, 30, 40, np.nan], equal_nan=True)


def test_track__a_gap_stays_one_but_its_edges_are_known():
    found = track([(0, 1), (1, 2), (1.6, 3), (1.7, 4)]).at(np.array([0, 0.5, 1, 1.3, 1.6, 1.65]))
    assert np.allclose(found, [1, np.nan, 2, np.nan, 3, 3.5], equal_nan=True)
    assert np.allclose(track([(0, 1), (1, 2)]).at(np.array([0.5]), most_gap_seconds=1.0), 1.5)


def test_track__disorder_and_repeats():
    found = track([(0.2, 20), (0, 0), (0.1, 8), (0.1, 12), (0.15, np.nan), (np.nan, 5)])
    assert found.seconds.tolist() == [0, 0.1, 0.2] and found.values.tolist() == [0, 10, 20]
    assert np.isnan(track([(np.nan, 1)]).at(np.zeros(2))).all()
    assert track([(1, 7)]).at(np.array([1.0]))[0] == 7


def test_read_csv__offset_empty_cells_and_other_columns(tmp_path):
    path = tmp_path / "a.telemetry.csv"
    path.write_text("note,steering_degrees,seconds\nx,1,10\ny,,10.1\nz,3,10.2\n\n")
    telemetry = read_csv(path, -10.0)
    assert set(telemetry) == {"steering_degrees"}
    found = joined(telemetry, np.array([0.0, 0.1, 0.2]))
    assert found[:, 1] == pytest.approx([1, 2, 3]) and np.isnan(found[:, [0, 2]]).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begins with seconds"),
        ("time,speed_m_per_s\n0,1\n", "begins with seconds"),
        (HEADER, "without a reading"),
        (HEADER + "0,1,2,3\n1,fast,0,0\n", "line 3"),
        ("\udcff\udcfe", "not a table"),
    ],
)
def test_read_csv__refuses(tmp_path, text, reason):
    path = tmp_path / "a.telemetry.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(Refused, match=reason):
        read_csv(path)


@pytest.mark.parametrize("seed", range(3))
def test_join__of_a_generated_drive_against_what_is_true(tmp_path, seed):
    """A logger with its own clock, rate, jitter and a gap, joined to frames at 15 a second."""
    draw = np.random.default_rng([seed, 9])
    motion = draw_scene(draw, (90, 160), 14.0).motion
    offset = 7.25
    write_telemetry(tmp_path / "a.telemetry.csv", motion, offset, draw)
    pts = np.arange(0, 12, 1 / 15)
    true = np.stack([motion.at(name, pts + LEAD_SECONDS) for name in ACTIONS], 1)
    found = joined(read_csv(tmp_path / "a.telemetry.csv", offset), pts)
    known = np.isfinite(found).all(1)
    errors = np.abs(found - true)[known]
    by_number = np.genfromtxt(tmp_path / "a.telemetry.csv", delimiter=",", skip_header=1)[: len(pts), 1:]
    wrong = np.nanmean(np.abs(by_number - true[: len(by_number)]), 0)
    print(f"known {known.mean():.2f}; mean error {errors.mean(0).round(3)}, by number {wrong.round(3)}")
    assert 0.8 < known.mean() < 0.97 and (errors.mean(0) < [0.03, 0.25, 0.15]).all()
    assert errors[:, 0].mean() < 0.25 * wrong[0]
    edges = np.flatnonzero(np.diff(known.astype(int)))
    assert any(later - earlier > 7 for earlier, later in itertools.pairwise(edges))  # the gap


@pytest.mark.real_data
def test_read_comma2k19__speed_of_the_bus_is_that_of_the_pose_at_the_frames_own_times(real_driving):
    """Two clocks of one real minute: the car's bus at 83 Hz and the pose; a shift of a fifth of a second shows."""
    folder = real_driving / "telemetry"
    telemetry, frame_times = read_comma2k19(folder)
    velocity = np.load(folder / "global_pose" / "frame_velocities")
    pose = np.linalg.norm(velocity, axis=1)

    def error(times):
        off = joined(telemetry, times)[:, 0] - pose
        return float(np.nanstd(off))

    off = [error(frame_times + shift) for shift in (-0.2, 0.0, 0.2)]
    print("speed in m/s, 0.2 s early, in time, 0.2 s late:", np.round(off, 3))
    assert off[1] < 0.07 and min(off[0], off[2]) > 0.1
    found = joined(telemetry, frame_times)
    assert np.isfinite(found).all(1).mean() > 0.99
    up = (place := np.load(folder / "global_pose" / "frame_positions")[0]) / np.linalg.norm(place)
    east = np.cross([0, 0, 1], up)
    course = np.unwrap(np.arctan2(velocity @ east, velocity @ np.cross(up, east)))  # clockwise from the north
    turning = -np.degrees(np.gradient(course, frame_times))
    smooth = [ndimage.gaussian_filter1d(rate[1:], 5) for rate in (turning, found[:, 2])]
    assert np.corrcoef(*smooth)[0, 1] > 0.75 and np.corrcoef(found[1:, 1], found[1:, 2])[0, 1] > 0.6


@pytest.fixture
def archive(tmp_path):
    """A recording of 6 s with telemetry of a known ramp from 1 s on, one whose telemetry is damaged, one without."""
    seconds = np.arange(0, 6, 0.1)
    for number, name in enumerate(("a", "b", "c")):
        write_frames(tmp_path / f"{name}.mp4", moving(60, seed=number), seconds)
    rows = [f"{t + 100:.2f},{2 * t:.3f},{t:.3f},{-t:.3f}" for t in np.arange(1, 6.5, 0.02)]
    (tmp_path / "a.telemetry.csv").write_text(HEADER + "\n".join(rows))
    (tmp_path / "b.telemetry.csv").write_text("nothing\n")
    (tmp_path / "lonely.telemetry.csv").write_text(HEADER + "0,1,1,1\n")
    (tmp_path / "dataset.yaml").write_text("telemetry_offset_seconds: -100\n")
    return tmp_path


def test_scan__telemetry_goes_with_its_recording(archive):
    scan = DOMAIN.scan(archive, CLIPS)
    of = {candidate.name.split("@")[0]: candidate for candidate in scan.candidates}
    assert set(of["a"].images) == {"video", "telemetry"} and set(of["b"].images) == set(of["c"].images) == {"video"}
    assert [path.name for path in scan.refused] == ["b.telemetry.csv"]
    assert scan.ignored[archive / "lonely.telemetry.csv"] == "telemetry without its recording"
    frames = DOMAIN.scan(archive, RECIPES["dashcam_lanes"])
    assert frames.ignored[archive / "a.telemetry.csv"] == "telemetry, which only clips carry" and not frames.refused


def test_batch__actions_at_the_frames_of_a_clip_and_mirrored_with_it(archive, tmp_path):
    read = read_all(list(DOMAIN.scan(archive, CLIPS).candidates), CLIPS, tmp_path / "entries")
    assert read.contract.actions == ACTIONS
    known = [at for at, subject in enumerate(read.subjects) if "telemetry_share" in subject.facts]
    assert 1 < len(known) < len(read.subjects)
    batch = read.crops().batch([known[-1], known[0], len(read.subjects) - 1], [1, 2, 3])
    seconds = batch.seconds[0, 0].float()
    wanted = torch.stack([2 * seconds, seconds, -seconds], 1)
    torch.testing.assert_close(batch.actions[0, 0], wanted, atol=1e-3, rtol=0)
    assert batch.actions[1, 0][batch.seconds[1, 0] < 0.99].isnan().all() and batch.actions[2].isnan().all()
    signs = {
        tuple(read.crops(augment=True).batch([known[-1]], [seed]).actions[0, 0].sign()[0].tolist()) for seed in range(9)
    }
    assert signs == {(1, 1, -1), (1, -1, 1)}
