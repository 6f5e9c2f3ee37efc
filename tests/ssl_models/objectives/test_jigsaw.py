"""Jigsaw: permutations against a slow search, tiles against slicing, guards, the loss, and what a probe gains."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from learning import IMAGE as IMAGE_OF_LEARNING
from learning import glyphs, probe_accuracies
from torch import nn
from torch.nn import functional as F

from ssl_models.encoders import build
from ssl_models.objectives.jigsaw import Jigsaw, cut, distant_permutations, lay, standardised, with_single_channel
from ssl_models.protocols import Batch, Geometry, pooled

IMAGE = Geometry((24, 24), ((1, 1), (2, 2), (2, 2)), (4, 4))
CLIP = Geometry((4, 24, 24), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (2, 4, 4), time_axis=True)


def jigsaw_of(encoder: str = "resunet", geometry: Geometry = IMAGE, **settings: object) -> Jigsaw:
    torch.manual_seed(0)
    return Jigsaw(build(encoder, size="tiny", in_channels=2, geometry=geometry), **settings)


def batch_of(size: tuple[int, ...] = (24, 24), clip: bool = False) -> Batch:
    crops = torch.randn(3, 2, 2, *size, generator=torch.Generator().manual_seed(1))
    seconds = torch.arange(size[0]).double().expand(3, 2, -1) if clip else None
    return Batch(crops=crops, sample_seed=torch.tensor([5, 6, 7]), group_id=("a", "b", "c"), seconds=seconds)


@pytest.mark.parametrize(("tiles", "count"), [(4, 24), (4, 64), (5, 30)])
def test_distant_permutations__equal_a_slow_search(tiles: int, count: int) -> None:
    every = list(permutations(range(tiles)))
    chosen = [every[0]]
    while len(chosen) < min(count, len(every)):
        apart = [[sum(a != b for a, b in zip(one, other, strict=True)) for other in chosen] for one in every]
        scores = [(min(row), sum(row)) for row in apart]
        chosen.append(every[scores.index(max(scores))])
    assert distant_permutations(tiles, count).tolist() == [list(one) for one in chosen]


def test_distant_permutations__nine_tiles_are_far_apart() -> None:
    table = distant_permutations(9, 64)
    apart = (table[:, None] != table[None]).sum(2)
    assert table.sort(1).values.eq(torch.arange(9)).all()
    assert apart[~torch.eye(64, dtype=torch.bool)].min() == 7


TILES = [
    ((24, 28), (3, 3), (8, 9), (7, 8)),
    ((4, 14, 14), (1, 2, 2), (4, 7, 7), (4, 6, 6)),
    ((8, 8, 8), (2, 2, 2), (4, 4, 4), (3, 3, 3)),
]
Shape = tuple[int, ...]


@pytest.mark.parametrize(("size", "grid", "cell", "tile"), TILES)
def test_cut__tiles_lie_anywhere_in_their_cells(size: Shape, grid: Shape, cell: Shape, tile: Shape) -> None:
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij"))
    tiles = cut(places.expand(100, *places.shape), grid, torch.arange(100))
    assert tiles.shape == (100, np.prod(grid), len(size), *tile)
    inner = torch.stack(torch.meshgrid(*(torch.arange(n) for n in tile), indexing="ij"))
    room = [c - t + 1 for c, t in zip(cell, tile, strict=True)]
    for n, corner in enumerate(np.ndindex(grid)):
        first = tiles[:, n].flatten(2)[:, :, 0]
        assert torch.equal(tiles[:, n], first.view(100, -1, *[1] * len(size)) + inner), "a tile is one piece"
        jitter = first - torch.tensor(corner) * torch.tensor(cell)
        assert {tuple(place) for place in jitter.tolist()} == set(np.ndindex(*room))


def test_cut__a_crop_smaller_than_its_grid() -> None:
    with pytest.raises(ValueError, match=r"\(2, 8\) cannot be cut into \(3, 3\)"):
        cut(torch.zeros(1, 1, 2, 8), (3, 3), torch.tensor([1]))


def test_standardised__each_tile_and_channel_by_itself() -> None:
    tiles = torch.randn(2, 4, 3, 6, 6) * torch.rand(2, 4, 3, 1, 1) + torch.randn(2, 4, 3, 1, 1)
    tiles[0, 0, 0] = 7.0
    result = standardised(tiles).numpy()
    for place in np.ndindex(2, 4, 3):
        one = tiles[place].double().numpy()
        np.testing.assert_allclose(result[place], (one - one.mean()) / np.sqrt(one.var() + 1e-6), atol=1e-4)
    assert np.abs(result[0, 0, 0]).max() < 1e-2


def test_with_single_channel__a_share_of_crops_shows_one_that_is_present() -> None:
    tiles = torch.arange(3.0).view(1, 1, 3, 1, 1).expand(3000, 4, 3, 2, 2)
    present = torch.tensor([True, False, True]).expand(3000, 3)
    result = with_single_channel(tiles, 0.3, torch.arange(3000), present)
    single = (result == result[:, :1, :1, :1, :1]).flatten(1).all(1)
    assert abs(single.float().mean() - 0.3) < 0.03
    assert torch.equal(result[~single], tiles[~single])
    often = torch.bincount(result[single][:, 0, 0, 0, 0].long(), minlength=3) / single.sum()
    assert often[1] == 0 and (often[[0, 2]] - 0.5).abs().max() < 0.06
    assert torch.equal(with_single_channel(tiles, 0.0, torch.arange(3000), None), tiles)


@pytest.mark.parametrize(
    ("encoder", "size", "clip", "tiles"),
    [("resunet", (24, 24), False, 9), ("vit", (24, 24), False, 9), ("resunet", (4, 24, 24), False, 8),
     ("vit", (4, 24, 24), True, 9)],
)  # fmt: skip
def test_loss__equals_a_slow_version(encoder: str, size: tuple[int, ...], clip: bool, tiles: int) -> None:
    objective = jigsaw_of(encoder, IMAGE if len(size) == 2 else CLIP, permutations=20)
    batch = batch_of(size, clip)
    losses = objective(batch)
    shuffled, drawn, table = objective._shuffled(batch)
    assert shuffled.shape[:2] == (6, tiles) and table.shape == (20, tiles)
    first, _, last = objective.head
    entropies, right = [], []
    for crop, place in zip(shuffled, drawn.tolist(), strict=True):
        joined = np.zeros(first.in_features)
        for n, tile in enumerate(crop):
            wanted = [
                -(-length // s) * s for length, s in zip(tile.shape[1:], objective.encoder.strides[-1], strict=True)
            ]
            padded = torch.zeros(1, 2, *wanted)
            padded[(0, slice(None), *(slice(length) for length in tile.shape[1:]))] = tile
            with torch.no_grad():
                features = pooled(objective.encoder(padded))[0].double().numpy()
            joined[n * len(features) : (n + 1) * len(features)] = features
        hidden = first.weight.detach().double().numpy() @ joined + first.bias.detach().double().numpy()
        hidden = F.gelu(torch.from_numpy(hidden)).numpy()
        logits = last.weight.detach().double().numpy() @ hidden + last.bias.detach().double().numpy()
        entropies.append(np.log(np.exp(logits).sum()) - logits[place])
        right.append(logits.argmax() == place)
    assert losses.total.item() == pytest.approx(np.mean(entropies), rel=1e-4)
    assert losses.parts["accuracy"].item() == pytest.approx(np.mean(right))


def test_shuffled__place_n_holds_the_tile_that_the_table_says() -> None:
    objective, batch = jigsaw_of(single_channel=0.0), batch_of()
    cells = torch.zeros(24, 24)
    for n, (y, x) in enumerate(np.ndindex(3, 3)):
        pattern = torch.randn(1, generator=torch.Generator().manual_seed(n))
        cells[8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = pattern + torch.arange(8.0) ** (1 + n / 4)
    flat = torch.stack([cells[8 * y, 8 * x : 8 * x + 8] for y, x in np.ndindex(3, 3)])
    shuffled, drawn, table = objective._shuffled(replace(batch, crops=cells.expand(3, 2, 2, 24, 24)))
    for crop, place in zip(shuffled, drawn.tolist(), strict=True):
        for n, source in enumerate(table[place].tolist()):
            expected = [standardised(flat[source, s : s + 7].expand(1, 1, 1, 7, 7))[0, 0, 0] for s in range(2)]
            assert any(torch.allclose(crop[n, 0], one, atol=1e-4) for one in expected)


def test_forward__brightness_and_contrast_of_a_cell_tell_nothing() -> None:
    objective, batch = jigsaw_of(single_channel=0.0), batch_of()
    changed = batch.crops.clone()
    changed[..., :8, 8:16] = 3 * changed[..., :8, 8:16] + 5
    torch.testing.assert_close(objective(replace(batch, crops=changed)).total, objective(batch).total)


def test_examples__restored_as_predicted() -> None:
    objective, batch = jigsaw_of(), batch_of()
    panels = objective.examples(batch)
    assert list(panels) == ["original", "shuffled", "restored"]
    shuffled, drawn, table = objective._shuffled(batch)
    assert torch.equal(panels["shuffled"], lay(shuffled[::2, :, 1:], (3, 3), (24, 24)))
    nn.init.zeros_(objective.head[2].weight)
    objective.head[2].bias.data = torch.eye(64)[drawn[0]]  # always says what is right for the first crop
    inverse = table[drawn[0]].argsort()
    in_order = lay(shuffled[:1, inverse][:, :, 1:], (3, 3), (24, 24))
    assert torch.equal(objective.examples(batch)["restored"][:1], in_order)


def test_lay__tiles_come_back_to_their_cells() -> None:
    crop = torch.rand(1, 1, 4, 14, 14) + 1
    picture = lay(cut(crop, (1, 2, 2), torch.tensor([4])), (1, 2, 2), (4, 14, 14))
    assert (picture != 0).sum() == 4 * 12 * 12
    assert (picture[..., 6, :] == 0).all() and (picture[..., 13, :] == 0).all(), "gaps between the cells"


def test_init__refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="must be 2 or 3"):
        jigsaw_of(grid=4)
    with pytest.raises(ValueError, match="at least 2"):
        jigsaw_of(permutations=1)


def test_learning__a_probe_on_its_features_tells_figures_that_were_cut_and_shuffled() -> None:
    before, after = probe_accuracies("jigsaw", glyphs, IMAGE_OF_LEARNING, steps=60, settings={"grid": 2})
    assert after > before + 0.1, (before, after)
