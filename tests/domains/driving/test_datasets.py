"""Crops: time by timestamp, several near in time, mirrored labels, the same seed the same crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from driving_files import read_all

from domains.domain import Candidate
from domains.driving.entries import normalised, open_entry
from domains.driving.plan import DEVIATION, MEAN
from domains.driving.quality import FLAGS
from domains.driving.recipes import RECIPES
from domains.driving.shapes import Shapes, open_shapes

CLIPS = RECIPES["dashcam_lanes"].changed({"data.clip_frames": "8", "data.height": "32", "data.width": "32",
                                          "data.crop_height": "32", "data.crop_width": "32"})  # fmt: skip


def test_batch__a_clip_has_the_nearest_frames_and_their_own_times(video, tmp_path):
    draw = np.random.default_rng(0)
    seconds = np.round(np.cumsum(draw.uniform(0.02, 0.06, 60)), 3)
    path, levels = video(seconds)
    read = read_all([Candidate("a", "a", {"video": path})], CLIPS, tmp_path)
    batch = read.crops().batch([0] * 6, list(range(6)))
    assert batch.crops.shape == (6, 1, 3, 8, 32, 32) and batch.seconds.shape == (6, 1, 8)
    assert batch.seconds.dtype == torch.float64
    pts = seconds - seconds[0]
    for crop, times in zip(batch.crops[:, 0], batch.seconds[:, 0].numpy(), strict=True):
        wanted = times[0] + np.arange(8) / 10
        slow = [int(np.abs(pts - time).argmin()) for time in wanted]
        assert times == pytest.approx(pts[slow])
        shown = (crop.mean((2, 3)).T.numpy() * DEVIATION + MEAN).mean(1) * 255
        assert shown == pytest.approx(levels[slow], abs=4)


@pytest.mark.parametrize("gap", [0.0, 0.4, 1.0])
def test_batch__several_crops_begin_near_each_other(video, tmp_path, gap):
    path, _ = video(np.arange(80) / 20)
    source = read_all([Candidate("a", "a", {"video": path})], CLIPS, tmp_path).crops(max_gap_seconds=gap)
    batch = source.batch([0] * 12, list(range(12)), 4)
    starts = batch.seconds[..., 0]
    apart = (starts.amax(1) - starts.amin(1)).max()
    assert apart <= gap + 1e-9 and (gap == 0 or apart > gap / 4)
    assert len(starts[:, 0].unique()) > 4
    assert torch.equal(source.batch([0] * 12, list(range(12))).seconds[:, 0], batch.seconds[:, 0])


def test_batch__single_frames_have_no_time(frames):
    batch = frames.crops(labelled=True, augment=True).batch([0, 1], [3, 4], 2)
    assert batch.seconds is None and batch.crops.shape == (2, 2, 3, 96, 128) and batch.targets.shape == (4, 1, 96, 128)


def test_batch__plain_crops_are_windows_of_the_store(frames):
    entry = open_entry(frames.entries[0])
    whole = normalised(entry.read([0]), MEAN, DEVIATION)[:, 0]
    labels = np.load(frames.labels[0] / "label.npy")[0]
    batch = frames.crops(labelled=True).batch([0], [5])
    windows = np.lib.stride_tricks.sliding_window_view(whole[0], (96, 128))
    [[top, left]] = np.argwhere((windows == batch.crops[0, 0, 0].numpy()).all((-2, -1)))
    assert np.array_equal(batch.crops[0, 0], whole[:, top : top + 96, left : left + 128])
    assert np.array_equal(batch.targets[0, 0], labels[top : top + 96, left : left + 128])


def test_batch__lanes_are_labels_of_every_frame(clips):
    source = clips.crops(labelled=True, augment=True)
    batch = source.batch([0, 1], [3, 4])
    assert batch.crops.shape == (2, 1, 3, 8, 96, 128) and batch.targets.shape == (2, 8, 6, 24)
    seen = batch.targets.isfinite().any(-1)
    assert seen[:, :, 2:4].all() and (seen == seen[:, :1]).all()  # both lines of the own lane on every frame
    again = source.batch([1], [4])
    assert torch.equal(again.crops[0], batch.crops[1])
    assert torch.equal(again.targets[0].nan_to_num(-1), batch.targets[1].nan_to_num(-1))


def test_starts__a_labelled_clip_holds_a_labelled_frame(clips, tmp_path):
    last = Shapes([9], open_shapes(clips.labels[0]).on(9))
    last.save(tmp_path)
    open_entry(clips.entries[0]).grid.save(tmp_path)
    source = clips.crops(labelled=True)
    source._labels[0] = tmp_path
    assert source.starts(0).tolist() == [2] and source.starts(1).tolist() == [0, 1, 2]
    targets = source.batch([0], [3]).targets[0]
    assert targets[:-1].isinf().all() and targets[-1].isfinite().any()


def test_batch__clips_are_drawn_away_from_what_shows_nothing_new(video, tmp_path):
    path, _ = video(np.arange(100) / 20)
    read = read_all([Candidate("a", "a", {"video": path})], CLIPS, tmp_path)
    flags = np.zeros(100, np.uint8)
    flags[20:60] = FLAGS["standing"]
    np.save(read.entries[0] / "flags.npy", flags)
    batch = read.crops().batch([0] * 300, list(range(300)))
    starts = (batch.seconds[:, 0, 0].numpy() * 20).round().astype(int)
    clips = np.arange(86)[:, None] + 2 * np.arange(8)
    expected = np.where(flags[clips] > 0, 0.2, 1.0).mean(1)
    found = np.bincount(starts, minlength=86)
    inside = slice(20, 46)  # all eight frames stand
    assert found[inside].sum() / 300 == pytest.approx(expected[inside].sum() / expected.sum(), abs=0.06)
    again = read.crops().batch([0] * 300, list(range(300)))
    assert torch.equal(again.seconds, batch.seconds)


def test_starts__no_clip_goes_over_a_scene_cut(video, tmp_path):
    path, _ = video(np.arange(40) / 20)
    read = read_all([Candidate("a", "a", {"video": path})], CLIPS, tmp_path)
    flags = np.zeros(40, np.uint8)
    flags[20] = FLAGS["cut"]
    np.save(read.entries[0] / "flags.npy", flags)
    assert read.crops().starts(0).tolist() == [0, 1, 2, 3, 4, 5, *range(20, 27)]


def test_batch__frames_of_a_recording_in_a_recipe_of_frames(video, tmp_path):
    recipe = RECIPES["road_scene"].changed({"data.height": "48", "data.width": "64", "data.crop_height": "48",
                                            "data.crop_width": "64"})  # fmt: skip
    path, levels = video(np.arange(30) / 10)
    read = read_all([Candidate("a", "a", {"video": path}, None, {"part": (1.0, 2.0)})], recipe, tmp_path)
    batch = read.crops().batch([0] * 40, list(range(40)))
    assert batch.seconds is None and batch.crops.shape == (40, 1, 3, 48, 64)
    shown = (batch.crops[:, 0].mean((2, 3)).numpy() * DEVIATION + MEAN).mean(1) * 255
    nearest = np.abs(shown[:, None] - levels[10:20]).argmin(1)
    assert np.abs(shown - levels[10:20][nearest]).max() < 4 and len(set(nearest)) > 7
