"""Heat, weights and boxes by hand; what is found in a map written by hand; that it learns where boxes are."""

import math

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from ssl_models import encoders
from ssl_models.decoders.centres import IGNORED, PADDING, CentreDecoder, _wanted, centre_loss, found_boxes
from ssl_models.optim import warmup_cosine
from ssl_models.protocols import Geometry

GEOMETRY = Geometry(crop_shape=(64, 64), pooling=((1, 1), (2, 2), (2, 2), (2, 2), (2, 2)), patch_shape=(8, 8))


def network(name="resunet", classes=2):
    torch.manual_seed(0)
    encoder = encoders.build(name, size="tiny", in_channels=3, geometry=GEOMETRY)
    decoder = CentreDecoder(widths=encoder.widths, strides=encoder.strides, classes=classes)
    return nn.Sequential(encoder, decoder)


def said(boxes, classes=2, places=(8, 8)):
    """Logits that say exactly these (class, score, row, column, left, top, right, bottom in strides)."""
    logits = torch.full((1, classes + 4, *places), -20.0)
    logits[:, classes:] = 0
    for kind, score, row, column, *sides in boxes:
        logits[0, kind, row, column] = math.log(score / (1 - score))
        logits[0, classes:, row, column] = torch.tensor(sides).log()
    return logits


@pytest.mark.parametrize("name", ["resunet", "vit"])
def test_decoder__rare_heat_at_a_quarter_of_the_resolution(name):
    logits = network(name)(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, 6, 16, 24)
    assert logits[:, :2].sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)


def test_decoder__not_on_volumes():
    with pytest.raises(ValueError, match="of stride 4"):
        CentreDecoder(widths=(8, 16, 32), strides=((1, 1, 1), (2, 2, 2), (4, 4, 4)), classes=1)


def test_decoder__the_batch_is_free_in_an_export():
    model = network().eval()
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(model, (torch.randn(2, 3, 64, 64),), dynamic_shapes=(batch,)).module()
    crops = torch.randn(3, 3, 64, 64)
    assert torch.allclose(exported(crops), model(crops), atol=1e-5)


def test_wanted__heat_falls_along_each_axis_as_the_box_is_large():
    # 16 x 32 pixels: 4 x 8 strides around place (row 6, column 4), deviations 0.54 * 4 / 6 and 0.54 * 8 / 6
    rows = torch.tensor([[[1.0, 10, 10, 26, 42], [PADDING, -1, -1, -1, -1]]])
    wanted = _wanted(rows, 2, (12, 12), 4)
    assert wanted.heat[0, 0].max() == 0 and not wanted.ignored.any()
    assert wanted.heat[0, 1, 6, 4] == 1 and (wanted.heat == 1).sum() == 1
    assert wanted.heat[0, 1, 6, 5].item() == pytest.approx(math.exp(-1 / (2 * 0.36**2)))
    assert wanted.heat[0, 1, 8, 4].item() == pytest.approx(math.exp(-4 / (2 * 0.72**2)))
    learning = wanted.weight[0].nonzero().tolist()  # within 1.08 columns and 2.16 rows of the middle
    assert learning == [[row, column] for row in range(4, 9) for column in (3, 4, 5)]
    assert wanted.weight.sum().item() == pytest.approx(1)
    assert wanted.boxes[0, 6, 4].tolist() == [10, 10, 26, 42]


def test_wanted__the_smaller_of_two_boxes_has_the_places_of_both():
    large, small = [0.0, 0, 0, 64, 64], [0.0, 28, 28, 44, 44]
    for rows in ([large, small], [small, large]):
        wanted = _wanted(torch.tensor([rows]), 1, (16, 16), 4)
        assert wanted.boxes[0, 9, 9].tolist() == small[1:] and wanted.boxes[0, 6, 6].tolist() == large[1:]
        assert wanted.weight.sum().item() == pytest.approx(2)


def test_wanted__ignored_areas_hold_the_places_whose_middle_they_cover():
    wanted = _wanted(torch.tensor([[[float(IGNORED), 4, 8, 12, 13]]]), 1, (8, 8), 4)
    assert wanted.ignored[0, 0].nonzero().tolist() == [[2, 1], [2, 2]]
    assert wanted.heat.max() == 0 and wanted.weight.max() == 0


def test_centre_loss__falls_to_nothing_for_what_is_right_and_looks_away_where_told():
    truth = torch.tensor([[[1.0, 4, 8, 12, 20]]])  # middle (8, 14): row 3, column 2; from (10, 14) 1.5, 1.5, 0.5, 1.5
    right = said([(1, 1 - 1e-6, 3, 2, 1.5, 1.5, 0.5, 1.5)])
    assert centre_loss(right, truth, 4).item() == pytest.approx(0, abs=1e-4)
    shifted = said([(1, 1 - 1e-6, 3, 2, 1.5, 1.5, 0.5, 3.5)])
    assert centre_loss(shifted, truth, 4).item() == pytest.approx(2 * (1 - 12 / 20))  # twice what GIoU lacks
    surplus = said([(1, 1 - 1e-6, 3, 2, 1.5, 1.5, 0.5, 1.5), (0, 0.9, 6, 6, 1, 1, 1, 1)])
    assert centre_loss(surplus, truth, 4).item() == pytest.approx(0.81 * -math.log(0.1), rel=1e-3)
    ignored = torch.cat([truth, torch.tensor([[[float(IGNORED), 24, 24, 28, 28]]])], 1)
    assert centre_loss(surplus, ignored, 4).item() == pytest.approx(0, abs=1e-4)


def test_centre_loss__without_any_object():
    logits = torch.zeros(2, 5, 4, 4, requires_grad=True)
    for rows in (torch.zeros(2, 0, 5), torch.full((2, 3, 5), -1.0)):
        loss = centre_loss(logits, rows, 4)
        loss.backward()
        assert loss.item() == pytest.approx(2 * 16 * 0.25 * math.log(2), rel=1e-5)


def test_found_boxes__peaks_above_the_least_score_cut_off_at_the_edge():
    logits = said([
        (1, 0.9, 3, 2, 1.5, 1.5, 0.5, 1.5),
        (1, 0.6, 3, 3, 1.5, 1.5, 0.5, 1.5),  # no peak: its neighbour is hotter
        (0, 0.6, 3, 3, 2.5, 1.5, 0.5, 1.5),  # one of another class
        (0, 0.7, 0, 7, 1.5, 2.5, 0.5, 1.5),
        (0, 0.019, 6, 1, 1, 1, 1, 1),
    ])  # fmt: skip
    [found] = found_boxes(logits, 4, (32, 31))
    expected = [[1, 0.9, 4, 8, 12, 20], [0, 0.7, 24, 0, 31, 8], [0, 0.6, 4, 8, 16, 20]]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-5)


def test_found_boxes__one_of_a_class_for_each_place():
    same = (2.0, 2.0, 2.0, 2.0)
    [found] = found_boxes(
        said([(0, 0.9, 3, 3, *same), (0, 0.8, 5, 3, 2.0, 4.0, 2.0, 0.1), (1, 0.7, 5, 6, *same)]), 4, (32, 32)
    )
    assert found[:, :2].tolist() == [[0, pytest.approx(0.9)], [1, pytest.approx(0.7)]]
    [nothing] = found_boxes(said([]), 4, (32, 32))
    assert nothing.shape == (0, 6)


@pytest.mark.slow
def test_decoder__learns_where_bright_and_dark_boxes_are():
    """Noise with one bright and one dark box; the best one of each class on new images overlaps the truth by half."""
    draw, model, steps = torch.Generator().manual_seed(0), network(), 60
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: warmup_cosine(n, steps=steps, warmup_steps=10))
    for _ in range(steps):
        images, rows = pictures(8, draw)
        loss = centre_loss(model(images), rows, 4)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    images, rows = pictures(32, draw)
    with torch.no_grad():
        found = found_boxes(model.eval()(images), 4, (64, 64))
    best = [[next((one[2:] for one in each if one[0] == kind), torch.zeros(4)) for kind in (0, 1)] for each in found]
    shared = box_iou(torch.stack([b for each in best for b in each]), rows[..., 1:].flatten(0, 1)).diag()
    assert (shared > 0.5).float().mean() > 0.8


def pictures(count, draw):
    """(count, 3, 64, 64) noise with a bright box (class 0) and a dark one (1), and their rows (count, 2, 5)."""
    images, rows = torch.randn(count, 3, 64, 64, generator=draw) * 0.3, torch.zeros(count, 2, 5)
    for one, boxes in zip(images, rows, strict=True):
        for kind, box in enumerate(boxes):
            wide, high = torch.randint(8, 24, (2,), generator=draw).tolist()
            x = int(torch.randint(32 - wide, (1,), generator=draw)) + 32 * kind
            y = int(torch.randint(64 - high, (1,), generator=draw))
            one[:, y : y + high, x : x + wide] += 1 - 2 * kind
            box[:] = torch.tensor([kind, x, y, x + wide, y + high])
    return images, rows
