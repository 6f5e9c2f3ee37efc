"""Patches, masks and positions for one to three axes."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from ssl_models import tokens

SHAPES = [((8,), (2,)), ((8, 12), (4, 3)), ((4, 8, 12), (2, 4, 3))]
SEEDS = torch.tensor([3, 2**61 + 5, 0, 17])


@pytest.mark.parametrize(("size", "patch"), SHAPES)
def test_patchify__round_trip(size: tuple[int, ...], patch: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *size)
    patches = tokens.patchify(x, patch)
    assert patches.shape == (2, math.prod(size) // math.prod(patch), 3 * math.prod(patch))
    assert torch.equal(tokens.unpatchify(patches, patch, size), x)


def test_patchify__order_is_row_major_with_channels_outermost() -> None:
    x = torch.randn(1, 2, 4, 6)
    patches = tokens.patchify(x, (2, 3))
    for n, (i, j) in enumerate(np.ndindex(2, 2)):
        assert torch.equal(patches[0, n], x[0, :, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].flatten())


def test_patchify__indivisible_size_names_both_sides() -> None:
    with pytest.raises(ValueError, match=r"\(6, 8\) is not divisible by the patch \(4, 4\)"):
        tokens.patchify(torch.zeros(1, 1, 6, 8), (4, 4))


def test_take__equals_indexing() -> None:
    x, index = torch.randn(3, 7, 5), torch.tensor([[6, 0], [1, 1], [2, 5]])
    assert torch.equal(tokens.take(x, index), torch.stack([x[b, index[b]] for b in range(3)]))


def test_draws__match_splitmix64_in_python_integers() -> None:
    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    for seed in (0, 1, 2**61 + 5):
        expected = [mix((mix(seed) + n * 0x9E3779B97F4A7C15) % 2**64) for n in range(1, 6)]
        assert [value % 2**64 for value in tokens.draws(torch.tensor([seed]), 5)[0].tolist()] == expected


def test_draws__look_uniform_and_seeds_uncorrelated() -> None:
    uniform = tokens.draws(torch.arange(200), 500).double() / 2.0**64
    assert abs(uniform.mean()) < 0.005
    assert abs(uniform.std() - 12**-0.5) < 0.005
    assert torch.corrcoef(uniform).fill_diagonal_(0).abs().max() < 0.25


def test_crop_seeds__distinct_and_in_range() -> None:
    seeds = tokens.crop_seeds(SEEDS, 3)
    assert len(set(seeds.tolist())) == 12
    assert seeds.min() >= 0 and seeds.max() < 2**62


def test_draws_below__uniform_below_each_bound() -> None:
    drawn = tokens.draws_below(torch.arange(3000), 2, torch.tensor([3, 7]))
    for column, below in enumerate((3, 7)):
        often = torch.bincount(drawn[:, column], minlength=below) / 3000
        assert len(often) == below and (often - 1 / below).abs().max() < 0.04
    assert torch.equal(tokens.draws_below(torch.arange(9), 4, 5), tokens.draws_below(torch.arange(9), 6, 5)[:, :4])


@pytest.mark.parametrize("ratio", [0.25, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("count", [10, 27, 512])
def test_split_tokens__counts_are_exact_and_nothing_is_lost(ratio: float, count: int) -> None:
    split = tokens.split_tokens(SEEDS, count, ratio)
    assert split.rest.shape[1] == tokens.hidden_count(count, ratio)
    both = torch.cat([split.seen, split.rest], 1).sort(1).values
    assert torch.equal(both, torch.arange(count).expand(4, -1))
    assert split.is_target.all()


def test_split_tokens__every_token_is_hidden_equally_often() -> None:
    split = tokens.split_tokens(torch.arange(4000), 20, 0.75)
    often = torch.bincount(split.rest.flatten(), minlength=20) / 4000
    assert (often - 0.75).abs().max() < 0.04


@pytest.mark.parametrize("with_foreground", [False, True])
def test_split_tokens__a_sample_does_not_depend_on_its_batch(with_foreground: bool) -> None:
    foreground = torch.rand(4, 64, generator=torch.Generator().manual_seed(0)) < 0.4 if with_foreground else None
    together = tokens.split_tokens(SEEDS, 64, 0.75, foreground)
    for b in (0, 3):
        alone = tokens.split_tokens(SEEDS[b : b + 1], 64, 0.75, None if foreground is None else foreground[b : b + 1])
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[b], part[0])
    assert not torch.equal(together.seen[0], together.seen[1])


@pytest.mark.parametrize("ratio", [0.3, 0.75, 0.9])
def test_split_tokens__ratio_holds_over_the_foreground(ratio: float) -> None:
    counts = [64, 1, 0, 21]
    foreground = torch.stack([torch.arange(64) < n for n in counts])
    split = tokens.split_tokens(SEEDS, 64, ratio, foreground)
    assert split.seen.shape == (4, 64 - tokens.hidden_count(64, ratio))
    for b, n in enumerate(counts):
        n = n or 64  # no foreground at all: everything counts as foreground
        assert split.is_target[b].sum() == tokens.hidden_count(n, ratio)
        assert (split.rest[b][split.is_target[b]] < n).all()
        assert (split.rest[b][~split.is_target[b]] >= n).all(), "a foreground token was dropped without being a target"
        assert sorted(torch.cat([split.seen[b], split.rest[b]]).tolist()) == list(range(64))


@pytest.mark.parametrize("with_foreground", [False, True])
def test_tubes__what_is_hidden_once_is_hidden_in_every_frame(with_foreground: bool) -> None:
    foreground = torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) < 0.5 if with_foreground else None
    one = tokens.split_tokens(SEEDS, 12, 0.75, foreground)
    split = tokens.tubes(one, 3, 12)
    assert split.seen.shape == (4, 9) and split.rest.shape == split.is_target.shape == (4, 27)
    for b in range(4):
        shown = torch.zeros(3, 12, dtype=torch.bool)
        target = torch.zeros(3, 12, dtype=torch.bool)
        for n in split.seen[b].tolist():
            shown[n // 12, n % 12] = True
        for n, wanted in zip(split.rest[b].tolist(), split.is_target[b].tolist(), strict=True):
            assert not shown[n // 12, n % 12]
            target[n // 12, n % 12] = wanted
        assert shown.sum() == 9 and torch.equal(shown, shown[:1].expand(3, -1))
        assert shown[0].nonzero().flatten().tolist() == sorted(one.seen[b].tolist())
        assert torch.equal(target, target[:1].expand(3, -1)) and target[0].sum() == one.is_target[b].sum()


def test_hidden_count__never_falls_and_shown_never_falls() -> None:
    for ratio in (0.1, 0.5, 0.75, 0.9):
        hidden = [tokens.hidden_count(n, ratio) for n in range(200)]
        assert all(b - a in (0, 1) for a, b in pairwise(hidden))


def test_block_mask__marks_whole_blocks() -> None:
    mask = tokens.block_mask(torch.tensor([[1], [2]]), (2, 3), (4, 6))
    assert mask.shape == (2, 1, 4, 6)
    assert mask.sum() == 12
    assert mask[0, 0, :2, 3:].all() and mask[1, 0, 2:, :3].all()


def test_sincos_positions__match_the_formula() -> None:
    table = tokens.sincos_positions((2, 3), 10).numpy()
    assert table.shape == (6, 10)
    for n, index in enumerate(np.ndindex(2, 3)):
        for axis, value in enumerate(index):
            for k in range(2):
                angle = value / 10000 ** (k / 2)
                assert table[n, 4 * axis + k] == pytest.approx(math.sin(angle), abs=1e-6)
                assert table[n, 4 * axis + 2 + k] == pytest.approx(math.cos(angle), abs=1e-6)
    assert (table[:, 8:] == 0).all()
