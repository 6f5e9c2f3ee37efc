"""Boxes in images, each found at the middle of its object: heat for every class, four distances at every place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, generalized_box_iou_loss

from ssl_models.decoders.segmentation import SegmentationDecoder
from ssl_models.encoders.staged import group_norm

STRIDE = 4
"""Of the finest map that is used: two places across a pedestrian eight pixels wide."""
PADDING, IGNORED = -1, -2
"""Classes of target rows that are no object: filled up, and an area in which nothing found is wrong."""
MIDDLE = 0.54
"""Share of a box, along each axis, whose places learn its distances; the heat's deviation is a sixth of it."""
RARE = 0.01
"""Heat everywhere before anything is learned."""
FOCUS, NEARNESS = 2, 4
"""Powers of the focal loss: of the error, and of how far from a middle a place is."""
BOX_WEIGHT = 2.0
"""Of the boxes' loss beside the heat's: 1 and 5 came out alike on two boxes in noise."""
SCORE, OVERLAP, MOST = 0.02, 0.5, 100
"""What is found has a higher score, overlaps nothing better of its class by more (IoU), and is among so many best."""


class CentreDecoder(nn.Module):
    """The expanding half of a U-Net up to stride 4, then for each place the heat of K classes and four distances.

    Source: Zhou et al. 2019, "Objects as Points", arXiv 1904.07850; Liu et al. 2019, "Training-Time-Friendly Network",
        arXiv 1909.00700 (distances to the sides learned in the middle of a box, by GIoU).
    Differs: any encoder's maps; distances are exponentials of what is learned, in strides.
    """

    def __init__(self, *, widths: tuple[int, ...], strides: tuple[tuple[int, ...], ...], classes: int) -> None:
        """A decoder for the encoder of images with these `widths` and `strides`, fine to coarse.

        Args:
            widths: channels of each feature map.
            strides: of each feature map relative to the input, per axis.
            classes: K.

        Raises:
            ValueError: the feature maps are not of images, or none has a stride of 4.
        """
        super().__init__()
        if (STRIDE, STRIDE) not in strides:
            raise ValueError(f"boxes need maps of images, one of them of stride {STRIDE}; their strides are {strides}")
        self.first = strides.index((STRIDE, STRIDE))
        width, finest = widths[self.first], strides[self.first]
        relative = tuple(tuple(s // f for s, f in zip(each, finest, strict=True)) for each in strides[self.first :])
        self.trunk = SegmentationDecoder(widths=widths[self.first :], strides=relative, out_channels=width)
        self.heat, self.sides = _branch(width, classes), _branch(width, 4)
        last = self.heat[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.constant_(last.bias, math.log(RARE / (1 - RARE)))

    def forward(self, features: list[Tensor]) -> Tensor:
        """(B, K + 4, H / 4, W / 4): logits of the heat, then logarithms of the distances to left, top, right, bottom.

        Distances are in strides, from the middle of a place.
        """
        shared = self.trunk(features[self.first :]).relu()
        return torch.cat([self.heat(shared), self.sides(shared)], dim=1)


def _branch(width: int, out_channels: int) -> nn.Sequential:
    _, norm = group_norm(width)
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(norm["num_groups"], width), nn.ReLU(),
        nn.Conv2d(width, out_channels, 1),
    )  # fmt: skip


@dataclass(frozen=True)
class _Wanted:
    """What a map should say."""

    heat: Tensor
    """(B, K, h, w) float32 in [0, 1], 1 at the middle of each object."""
    ignored: Tensor
    """(B, 1, h, w) bool: nobody looks at the heat here."""
    boxes: Tensor
    """(B, h, w, 4) float32, x1, y1, x2, y2 in pixels of the crop, where `weight` is not 0."""
    weight: Tensor
    """(B, h, w) float32 that sums to 1 over each object's middle."""


def centre_loss(logits: Tensor, targets: Tensor, stride: int) -> Tensor:
    """() focal loss of the heat plus twice the GIoU loss of the boxes, for each object, in float32 under autocast too.

    Args:
        logits: (B, K + 4, h, w) of `CentreDecoder`.
        targets: (B, M, 5) float: class, x1, y1, x2, y2 in pixels of the crop; class `PADDING` for rows that are none,
            `IGNORED` for areas in which nothing found is wrong.
        stride: pixels of the crop between two places.

    Source: Zhou et al. 2019, arXiv 1904.07850 (heat); Liu et al. 2019, arXiv 1909.00700 (boxes); Rezatofighi et al.
        2019, arXiv 1902.09630 (GIoU).
    Differs: every object weighs the same, not by the logarithm of its area; of overlapping boxes the smaller one's
        middle is learned.
    """
    classes = logits.shape[1] - 4
    with torch.autocast(logits.device.type, enabled=False):
        wanted = _wanted(targets.float(), classes, (logits.shape[2], logits.shape[3]), stride)
        objects = (targets[..., 0] >= 0).sum().clamp_min(1)
        heat = logits[:, :classes].float()
        sure, unsure = F.logsigmoid(heat), F.logsigmoid(-heat)
        middle = wanted.heat == 1
        found = sure * unsure.exp() ** FOCUS * middle
        clear = unsure * sure.exp() ** FOCUS * (1 - wanted.heat) ** NEARNESS * ~(middle | wanted.ignored)
        learning = wanted.weight > 0
        boxes = _boxes(logits[:, classes:].float(), stride)[learning]
        apart = generalized_box_iou_loss(boxes, wanted.boxes[learning])
        return (BOX_WEIGHT * (apart * wanted.weight[learning]).sum() - found.sum() - clear.sum()) / objects


def _wanted(targets: Tensor, classes: int, shape: tuple[int, int], stride: int) -> _Wanted:
    """Heat, boxes and weights for rows of targets (B, M, 5), on a map of that shape."""
    height, width = shape
    x = torch.arange(width, device=targets.device).float()
    y = torch.arange(height, device=targets.device).float()[:, None]
    kind, box = targets[..., 0].long(), targets[..., 1:]
    left, top, right, bottom = ((box / stride)[..., side, None, None] for side in range(4))
    column = ((left + right) / 2).floor().clamp(0, width - 1)
    row = ((top + bottom) / 2).floor().clamp(0, height - 1)
    wide, high = (right - left).clamp_min(1e-3) * MIDDLE, (bottom - top).clamp_min(1e-3) * MIDDLE
    bell = torch.exp(-18 * (((x - column) / wide) ** 2 + ((y - row) / high) ** 2))  # (B, M, h, w); 18 = 6**2 / 2
    is_object = (kind >= 0)[..., None, None]
    heat = torch.zeros(len(targets), classes, height, width, device=targets.device)
    for label in range(classes):
        of_class = (kind == label)[..., None, None]
        if targets.shape[1]:
            heat[:, label] = (bell * of_class).amax(1)
    inside = (x + 0.5 >= left) & (x + 0.5 <= right) & (y + 0.5 >= top) & (y + 0.5 <= bottom)
    ignored = (inside & (kind == IGNORED)[..., None, None]).any(1, keepdim=True)
    core = is_object & ((x - column).abs() <= wide / 2) & ((y - row).abs() <= high / 2)
    return _Wanted(heat, ignored, *_assigned(box, bell, core))


def _assigned(box: Tensor, bell: Tensor, core: Tensor) -> tuple[Tensor, Tensor]:
    """Box (B, h, w, 4) and weight (B, h, w) of each place: of those whose middle it lies in, the smallest one's."""
    if not box.shape[1]:
        return box.new_zeros(len(box), *core.shape[2:], 4), box.new_zeros(len(box), *core.shape[2:])
    area = ((box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]))[..., None, None]
    owner = area.expand(core.shape).masked_fill(~core, math.inf).argmin(1, keepdim=True)
    own = core & (torch.arange(box.shape[1], device=box.device)[:, None, None] == owner)
    share = bell * own
    share = share / share.sum((2, 3), keepdim=True).clamp_min(1e-12)
    chosen = owner[:, 0].flatten(1)[..., None].expand(-1, -1, 4)
    return box.gather(1, chosen).unflatten(1, tuple(core.shape[2:])), share.sum(1)


def _boxes(sides: Tensor, stride: int) -> Tensor:
    """(B, h, w, 4) x1, y1, x2, y2 in pixels of the crop, from logarithms of distances (B, 4, h, w)."""
    height, width = sides.shape[2:]
    x = (torch.arange(width, device=sides.device) + 0.5).expand(height, width)
    y = (torch.arange(height, device=sides.device) + 0.5)[:, None].expand(height, width)
    away = sides.clamp(max=math.log(1024)).exp().movedim(1, -1)
    return stride * torch.cat([torch.stack([x, y], -1) - away[..., :2], torch.stack([x, y], -1) + away[..., 2:]], -1)


def found_boxes(logits: Tensor, stride: int, size: tuple[int, int]) -> list[Tensor]:
    """What each of B maps says: (N, 6) float32 class, score in [0, 1], x1, y1, x2, y2 in pixels, the best first.

    A box is found where the heat of its class is highest among a place and its eight neighbours; it is cut off at the
    edges of the image.

    Args:
        logits: (B, K + 4, h, w) of `CentreDecoder`.
        stride: pixels of the image between two places.
        size: (H, W) of the image in pixels, which the map may exceed (padding).
    """
    classes = logits.shape[1] - 4
    heat = logits[:, :classes].float().sigmoid()
    peak = heat.masked_fill(heat < F.max_pool2d(heat, 3, stride=1, padding=1), 0)
    each = []
    for one, boxes in zip(peak, _boxes(logits[:, classes:].float(), stride), strict=True):
        scores, at = one.flatten().topk(min(one.numel(), 10 * MOST))
        scores, at = scores[scores > SCORE], at[scores > SCORE]
        places = boxes.flatten(0, 1)[at % boxes[..., 0].numel()]
        places = torch.stack([places[:, n].clamp(0, size[1 - n % 2]) for n in range(4)], 1)
        kinds = at // boxes[..., 0].numel()
        there = (places[:, 2] > places[:, 0]) & (places[:, 3] > places[:, 1])
        places, scores, kinds = places[there], scores[there], kinds[there]
        kept = batched_nms(places, scores, kinds, OVERLAP)[:MOST]
        each.append(torch.cat([kinds[kept, None].float(), scores[kept, None], places[kept]], 1))
    return each
