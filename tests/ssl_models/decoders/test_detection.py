"""Anchors by hand; rows, loss and boxes of the RetinaNet decoder; that it learns where a box is."""

import pytest
import torch
from monai.data.box_utils import box_iou
from torch import nn

from ssl_models import encoders
from ssl_models.decoders.detection import EDGES, BoxDecoder, anchors_of, detection_loss, found_boxes
from ssl_models.protocols import Geometry

GEOMETRY = Geometry(
    crop_shape=(16, 32, 32), pooling=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)), patch_shape=(4, 8, 8)
)


def network(name="resunet"):
    torch.manual_seed(0)
    encoder = encoders.build(name, size="tiny", in_channels=1, geometry=GEOMETRY)
    return nn.Sequential(encoder, BoxDecoder(widths=encoder.widths, strides=encoder.strides))


def test_anchors_of__cubes_around_the_middle_of_each_place():
    found = anchors_of((1, 2), (4, 8))
    assert EDGES == (2, 3)
    assert found.tolist() == [[-2, -4, 6, 12], [-4, -8, 8, 16], [-2, 4, 6, 20], [-4, 0, 8, 24]]


@pytest.mark.parametrize("name", ["resunet", "vit"])
def test_decoder__a_row_for_every_anchor(name):
    rows = network(name)(torch.randn(2, 1, 16, 32, 32))
    places = rows[0, :, -1].long().bincount().tolist()
    assert rows.shape == (2, sum(places), 14) and len(places) == 3 and rows.dtype == torch.float32
    anchors = rows[0, :, 7:13]
    assert torch.equal(anchors, rows[1, :, 7:13])
    middle = (anchors[:, :3] + anchors[:, 3:]) / 2
    assert (middle > 0).all() and (middle < torch.tensor([16, 32, 32])).all()


def test_decoder__the_batch_is_free_in_an_export():
    model = network().eval()
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(model, (torch.randn(2, 1, 16, 32, 32),), dynamic_shapes=(batch,)).module()
    crops = torch.randn(3, 1, 16, 32, 32)
    assert torch.allclose(exported(crops), model(crops), atol=1e-5)


def test_found_boxes__an_anchor_that_fits_exactly():
    rows = network()(torch.zeros(1, 1, 16, 32, 32)).detach()[0]
    rows[:, 0], rows[:, 1:7] = -10.0, 0.0  # nothing anywhere, no shifts
    inside = ((rows[:, 7:10] >= 0) & (rows[:, 10:13] <= torch.tensor([16, 32, 32]))).all(1)
    one = int(inside.nonzero()[3])
    rows[one, 0] = 3.0
    boxes, scores = found_boxes(rows, (16, 32, 32))
    assert torch.equal(boxes, rows[one : one + 1, 7:13]) and scores.item() == pytest.approx(0.9526, abs=1e-3)


def test_detection_loss__seed_decides_and_nothing_else():
    rows = network()(torch.randn(2, 1, 16, 32, 32)).detach()
    rows[..., 0] += torch.randn(rows.shape[:2], generator=torch.Generator().manual_seed(1))
    boxes = [torch.tensor([[4.0, 8, 8, 12, 20, 20]]), torch.zeros(0, 6)]
    before = torch.random.get_rng_state()
    first, again, other = (detection_loss(rows, boxes, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again) and first != other
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.isfinite(detection_loss(rows, [torch.zeros(0, 6)] * 2, 0))


@pytest.mark.slow
def test_decoder__learns_where_a_bright_box_is():
    """Crops of noise with one bright cuboid; new ones are found with an IoU above a half, and none in noise alone."""
    draw = torch.Generator().manual_seed(0)
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(60):
        crops, boxes = cuboids(4, draw)
        loss = detection_loss(model(crops), boxes, step)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
    crops, boxes = cuboids(8, draw)
    with torch.no_grad():
        rows, noise = model(crops), model(0.3 * torch.randn(8, 1, 16, 32, 32, generator=draw))
    found = [found_boxes(one, (16, 32, 32)) for one in rows]
    overlaps = [float(box_iou(best[:1], box)) for (best, _), box in zip(found, boxes, strict=True)]
    false = [
        float(scores.max()) if len(scores) else 0.0 for _, scores in (found_boxes(one, (16, 32, 32)) for one in noise)
    ]
    assert sum(overlaps) / len(overlaps) > 0.5
    assert max(false) < min(float(scores[0]) for _, scores in found)


def cuboids(count, draw):
    """Crops (count, 1, 16, 32, 32) of noise with a bright cuboid each, and its box."""
    crops, boxes = 0.3 * torch.randn(count, 1, 16, 32, 32, generator=draw), []
    for crop in crops:
        size = torch.tensor(
            [int(torch.randint(low, high, (), generator=draw)) for low, high in ((5, 9), (8, 15), (8, 15))]
        )
        start = (torch.rand(3, generator=draw) * (torch.tensor([16, 32, 32]) - size)).long()
        d, h, w = (slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))
        crop[0, d, h, w] += 2
        boxes.append(torch.cat([start, start + size])[None].float())
    return crops, boxes
