"""Boxes from feature maps: MONAI's RetinaNet on any encoder, its anchors, its loss and what it finds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNetClassificationHead, RetinaNetRegressionHead
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork
from torch import Tensor, nn

LEVELS = 3
"""The coarsest feature maps, on which objects are looked for."""
EDGES = (2.0, 3.0)
"""Edges of the anchors at every place, in strides of its feature map along each axis."""
SAMPLED, POSITIVE, POOL = 64, 1 / 3, 20
"""Anchors of a crop that the loss looks at, the share of them on an object at most, and from how many times as many of
the worst mistakes the others are drawn."""
SCORE, OVERLAP, MOST = 0.02, 0.2, 100
"""What is found has a higher score, overlaps nothing better by more (IoU), and is among so many best."""


class BoxDecoder(nn.Module):
    """A feature pyramid and two heads: for every anchor, whether an object is there and how its box differs.

    Source: Lin et al. 2017, arXiv:1708.02002 (RetinaNet); Baumgartner et al. 2021, arXiv:2106.00817 (in volumes).
    Differs: one kind of object; two cubes (in strides) a place instead of shapes fitted to the archive.
    """

    def __init__(self, *, widths: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> None:
        """A decoder for the encoder with these `widths` and `strides`, fine to coarse; uses the coarsest three."""
        super().__init__()
        self.levels = min(LEVELS, len(widths))
        self.strides = strides[-self.levels :]
        axes, width = len(strides[0]), widths[-self.levels]
        self.pyramid = FeaturePyramidNetwork(axes, list(widths[-self.levels :]), width)
        self.scores = RetinaNetClassificationHead(width, len(EDGES), 1, axes)
        self.shifts = RetinaNetRegressionHead(width, len(EDGES), axes)

    def forward(self, features: list[Tensor]) -> Tensor:
        """A row for each of N anchors, which it carries along, so that loss and decoding need nothing else.

        Returns:
            (B, N, 2 + 4 A) float32 for A axes: logit, how the box differs (2 A), the anchor in voxels of the crop (2 A:
            first voxel along each axis, then one past the last), and its level.
        """
        maps = self.pyramid(OrderedDict((str(n), m) for n, m in enumerate(features[-self.levels :])))
        found = list(maps.values())
        each = zip(self.scores(found), self.shifts(found), self.strides, strict=True)
        return torch.cat([_rows(*one, level) for level, one in enumerate(each)], dim=1)


def _rows(scores: Tensor, shifts: Tensor, stride: tuple[int, ...], level: int) -> Tensor:
    grid = scores.shape[2:]
    anchors = torch.cat([anchors_of(tuple(grid), stride), torch.full((len(EDGES) * grid.numel(), 1), float(level))], 1)
    ours = anchors.to(scores.device).expand(scores.shape[0], -1, -1)  # len() would fix the batch in an export
    return torch.cat([_flat(scores), _flat(shifts), ours], dim=2)


def _flat(maps: Tensor) -> Tensor:
    """(B, EDGES * C, *S) -> (B, S * EDGES, C) float32."""
    return maps.float().unflatten(1, (len(EDGES), -1)).flatten(3).permute(0, 3, 1, 2).flatten(1, 2)


def anchors_of(grid: Sequence[int], stride: Sequence[int]) -> Tensor:
    """(S * EDGES, 2 A) float32: cubes (in strides) around the middle of every place of a feature map."""
    axes = [(torch.arange(n) + 0.5) * s for n, s in zip(grid, stride, strict=True)]
    middle = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)[:, None]
    half = torch.tensor(EDGES)[:, None] * torch.tensor(stride) / 2
    return torch.cat([middle - half, middle + half], -1).flatten(0, 1)


def detection_loss(rows: Tensor, boxes: Sequence[Tensor], seed: int) -> Tensor:
    """() cross-entropy of a third objects and two thirds hard negatives, plus smooth L1 of the boxes.

    Args:
        rows: (B, N, 2 + 4 A) of `BoxDecoder`.
        boxes: of each crop, (G, 2 A) in its voxels; G may be 0.
        seed: decides which of the hard negatives are drawn.

    Source: Zhang et al. 2020, arXiv:1912.02424 (ATSS: which anchors are on an object).
    Differs: none; matcher, sampler and losses are MONAI's.
    """
    logits, shifts, anchors, places = _parts(rows)
    targets = [{"boxes": one.to(rows), "labels": torch.zeros(len(one), dtype=torch.int64, device=rows.device)}
               for one in boxes]  # fmt: skip
    detector = _detector(anchors.shape[-1] // 2)
    outputs = {detector.cls_key: logits, detector.box_reg_key: shifts}
    with torch.random.fork_rng(devices=[]), torch.autocast(rows.device.type, enabled=False):
        torch.manual_seed(seed)
        losses = detector.compute_loss(outputs, targets, [anchors] * len(rows), places)
    total: Tensor = sum(losses.values(), start=torch.zeros((), device=rows.device))
    return total


def found_boxes(rows: Tensor, crop_shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Boxes (M, 2 A) inside a crop, and their scores (M,) in [0, 1], the best first, of its rows (N, 2 + 4 A)."""
    logits, shifts, anchors, places = _parts(rows[None])
    detector = _detector(anchors.shape[-1] // 2)
    outputs = {detector.cls_key: logits, detector.box_reg_key: shifts}
    (found,) = detector.postprocess_detections(outputs, [anchors], [list(crop_shape)], places)
    order = found[detector.pred_score_key].argsort(descending=True)
    return found[detector.target_box_key][order], found[detector.pred_score_key][order]


def _parts(rows: Tensor) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Logits (B, N, 1), shifts (B, N, 2 A), anchors (N, 2 A) and the number of places at each level."""
    wide = (rows.shape[-1] - 2) // 2
    levels = rows[0, :, -1].long().bincount() // len(EDGES)
    return rows[..., :1], rows[..., 1 : 1 + wide], rows[0, :, 1 + wide : 1 + 2 * wide], levels.tolist()


@lru_cache
def _detector(axes: int) -> RetinaNetDetector:
    """MONAI's matching, sampling, losses and selection; the network and its anchors are those above."""
    shapes = list(product((1.0,), repeat=axes)) * len(EDGES)
    detector = RetinaNetDetector(nn.Identity(), AnchorGeneratorWithAnchorShape((1,), shapes), spatial_dims=axes,
                                 num_classes=1, size_divisible=1)  # fmt: skip
    detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
    detector.set_hard_negative_sampler(SAMPLED, POSITIVE, min_neg=16, pool_size=POOL)
    detector.set_box_selector_parameters(score_thresh=SCORE, nms_thresh=OVERLAP, detections_per_img=MOST)
    return detector
