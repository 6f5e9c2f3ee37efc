"""Rows: shapes from every encoder, the loss by hand, places recovered from scores, and a grid that learns to look."""

import math

import pytest
import torch
from torch import nn

from ssl_models.decoders.rows import CELL, RowDecoder, row_loss, row_places
from ssl_models.encoders import build
from ssl_models.protocols import Geometry

IMAGES = Geometry(crop_shape=(32, 48), pooling=((1, 1), (2, 2), (2, 2), (2, 2)), patch_shape=(8, 8))
CLIPS = Geometry(
    crop_shape=(4, 32, 48), pooling=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)), patch_shape=(2, 8, 8), time_axis=True
)


@pytest.mark.parametrize(
    ("name", "geometry"),
    [("resunet", IMAGES), ("vit", IMAGES), ("resunet", CLIPS), ("vit", CLIPS), ("slow", CLIPS), ("x3d", CLIPS)],
)
def test_decoder__rows_of_every_encoder(name, geometry):
    encoder = build(name, size="tiny", in_channels=3, geometry=geometry)
    decoder = RowDecoder(widths=encoder.widths, strides=encoder.strides, slots=5)
    with torch.no_grad():
        rows = decoder(encoder(torch.randn(2, 3, *geometry.crop_shape)))
    assert rows.shape == (2, *geometry.crop_shape[:-2], 5, 32 // CELL, 48 // CELL + 1)


def test_decoder__a_frame_of_a_clip_has_the_map_of_its_moment():
    decoder = RowDecoder(widths=(2, 2), strides=((1, 1, 1), (2, 2, 2)), slots=1).eval()
    fine, coarse = torch.randn(1, 2, 4, 16, 16), torch.randn(1, 2, 2, 8, 8)
    with torch.no_grad():
        before = decoder([fine, coarse])
        coarse[:, :, 1] += 1
        after = decoder([fine, coarse])
    assert torch.equal(before[0, :2], after[0, :2]) and not torch.isclose(before[0, 2:], after[0, 2:]).all()


def test_row_loss__by_hand():
    scores = torch.zeros(1, 1, 2, 4)
    there = torch.tensor([[[[2.0], [-1.0]]]])
    rows = torch.cat([scores, there], -1)
    targets = torch.tensor([[[2.5 * CELL, math.nan]]])  # cell position 2: three quarters of the way
    exists = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    away = 0.2 * 0.5 * (2 - 1.5) ** 2
    assert float(row_loss(rows, targets)) == pytest.approx(exists + math.log(4) + away, rel=1e-5)
    sure = scores.clone()
    sure[..., 1] = 3.0
    between = torch.tensor([[[2 * CELL, math.inf]]])  # half in cell 1, half in cell 2
    chances = sure[0, 0, 0].softmax(-1)
    expected = float((chances * torch.arange(4)).sum())
    wanted = math.log1p(math.exp(-2)) - float(chances[1].log() + chances[2].log()) / 2 + 0.1 * (expected - 1.5) ** 2
    assert float(row_loss(torch.cat([sure, there], -1), between)) == pytest.approx(wanted, rel=1e-4)


def test_row_loss__nobody_looked():
    rows = torch.randn(2, 3, 4, 9, requires_grad=True)
    loss = row_loss(rows, torch.full((2, 3, 4), math.inf))
    loss.backward()
    assert float(loss) == 0 and rows.grad.abs().sum() == 0


def test_row_places__the_mean_around_the_best_cell():
    scores = torch.full((1, 1, 1, 20), -20.0)
    scores[..., 4], scores[..., 5], scores[..., 15] = 3.0, 3.0, 2.9
    x, there = row_places(torch.cat([scores, torch.zeros(1, 1, 1, 1)], -1))
    assert float(x) == pytest.approx(5 * CELL, abs=1e-3) and float(there) == 0.5


def test_decoder__learns_where_a_stripe_is():
    torch.manual_seed(0)
    decoder = RowDecoder(widths=(1,), strides=((1, 1),), slots=2, width=16)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(0)

    def stripes(count):
        """One upright stripe, left in slot 0, right in slot 1."""
        x = torch.rand(count, generator=draw) * 40 + 4
        image = torch.exp(-((torch.arange(48) + 0.5 - x[:, None]) ** 2) / 8)[:, None, None].expand(-1, 1, 16, 48)
        targets = torch.full((count, 2, 4), math.nan)
        targets[torch.arange(count), (x > 24).long()] = x[:, None]
        return image.contiguous(), targets

    assert isinstance(decoder, nn.Module)
    for _ in range(60):
        image, targets = stripes(16)
        optimiser.zero_grad()
        row_loss(decoder([image]), targets).backward()
        optimiser.step()
    image, targets = stripes(64)
    x, there = row_places(decoder([image]).detach())
    present = targets.isfinite()
    assert ((there > 0.5) == present).float().mean() > 0.9
    assert (x - targets)[present].abs().median() < 1.0


def test_decoder__the_batch_is_free_in_an_export():
    encoder = build("resunet", size="tiny", in_channels=3, geometry=IMAGES)
    decoder = RowDecoder(widths=encoder.widths, strides=encoder.strides, slots=2)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = encoder, decoder

        def forward(self, crops):
            return self.decoder(self.encoder(crops))

    model = Network().eval()
    batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(model, (torch.randn(2, 3, 32, 48),), dynamic_shapes=batch).module()
    crops = torch.randn(3, 3, 32, 48)
    assert torch.allclose(exported(crops), model(crops), atol=1e-5)
