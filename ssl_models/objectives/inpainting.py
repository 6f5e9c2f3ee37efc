"""Inpainting: take boxes out of a crop and paint what is missing from what is around."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.decoders.reconstruction import ReconstructionDecoder
from ssl_models.losses import channel_weight, weighted_squared_error
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled
from ssl_models.tokens import crop_seeds, draws_below

OVERLAP = 7 / 128
"""Width of the seam around a box that is painted as well, as a share of the crop's side."""
OVERLAP_WEIGHT = 10.0
_RESOLUTION = 2**20


class Inpainting(nn.Module):
    """Squared error on the missing boxes and, ten times heavier, on a narrow seam around them.

    The encoder sees the mean of what is visible in place of a box; the decoder sees its coarsest feature map alone. In
    a recording a box is missing at the same place in every frame.

    Source: Pathak et al. 2016, context encoders (arXiv 1604.07379).
    Differs: no adversarial term; the whole crop is painted and the loss looks at the boxes and their seam; any number
        of axes, the same share missing in each; boxes come from sample seeds; a missing channel is no target.
    """

    needs = Needs()
    decoder = None

    def __init__(self, encoder: Encoder, *, missing: float = 0.25, boxes: int = 4) -> None:
        """A painter of missing boxes around `encoder`.

        Args:
            missing: share of the crop that all boxes have together, less where they overlap; between 0 and 1.
            boxes: how many, anywhere in the crop; 0: a single one in the middle.

        Raises:
            ValueError: if the share is not between 0 and 1 or the number of boxes is negative.
        """
        super().__init__()
        if not 0 < missing < 1 or boxes < 0:
            raise ValueError(f"missing is {missing} in {boxes} boxes, but must lie between 0 and 1, in 0 or more boxes")
        self.encoder, self.missing, self.boxes = encoder, missing, boxes
        self.paint = ReconstructionDecoder(
            widths=encoder.widths, strides=encoder.strides, out_channels=encoder.in_channels
        )

    def forward(self, batch: Batch) -> Losses:
        crops, missing = batch.crops.flatten(0, 1), self._missing(batch)
        features = self.encoder(without(crops, missing))
        present = channel_weight(batch)
        weight = (missing + OVERLAP_WEIGHT * seam(missing, batch.time_axis)) * present
        predicted = self.paint(features)
        loss = weighted_squared_error(predicted, crops, weight)
        inside = weighted_squared_error(predicted.detach(), crops, missing * present)
        embedding = pooled(features).detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=loss, parts={"missing_mse": inside}, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, *S) of the middle channel of each first crop: original, seen, painted."""
        each = batch.crops.shape[1]
        crops, missing = batch.crops[:, 0], self._missing(batch)[::each]
        seen = without(crops, missing)
        painted = torch.where(missing, self.paint(self.encoder(seen)).float(), crops)
        middle = slice(batch.shown_channel, batch.shown_channel + 1)
        return {"original": crops[:, middle], "seen": seen[:, middle], "painted": painted[:, middle]}

    def _missing(self, batch: Batch) -> Tensor:
        """(B * V, 1, *S) bool, True inside the boxes of each crop."""
        seeds, size = crop_seeds(batch.sample_seed, batch.crops.shape[1]), tuple(batch.crops.shape[3:])
        return box_mask(seeds, size, missing=self.missing, boxes=self.boxes, whole_axes=int(batch.time_axis))


def box_mask(sample_seed: Tensor, size: tuple[int, ...], *, missing: float, boxes: int, whole_axes: int) -> Tensor:
    """(B, 1, *size) bool, True inside boxes of the crop's proportions at drawn places, or in the middle for 0 boxes.

    Args:
        sample_seed: (B,) int64.
        size: S of the crop.
        missing: share of the crop that the boxes have together.
        boxes: how many.
        whole_axes: along the first so many axes a box is as long as the crop.
    """
    axes = len(size) - whole_axes
    share = (missing / max(boxes, 1)) ** (1 / axes)
    place = torch.full((len(sample_seed), 1, axes), 0.5, device=sample_seed.device)
    if boxes:
        place = draws_below(sample_seed, boxes * axes, _RESOLUTION).unflatten(1, (boxes, axes)) / _RESOLUTION
    mask = torch.ones(len(sample_seed), place.shape[1], *size, dtype=torch.bool, device=sample_seed.device)
    for axis in range(axes):
        length = size[whole_axes + axis]
        edge = max(1, round(length * share))
        start = (place[..., axis] * (length - edge + 1)).long().unsqueeze(2)
        index = torch.arange(length, device=sample_seed.device)
        along = (index >= start) & (index < start + edge)
        mask &= along.view(*along.shape[:2], *(length if i == whole_axes + axis else 1 for i in range(len(size))))
    return mask.any(1, keepdim=True)


def seam(missing: Tensor, time_axis: bool) -> Tensor:
    """(B, 1, *S) bool: what is seen, but within `OVERLAP` of the crop's side (a pixel at least) of a missing box."""
    size = missing.shape[2:]
    near = [max(1, round(length * OVERLAP)) for length in size]
    if time_axis:
        near[0] = 0
    pool = F.max_pool2d if len(size) == 2 else F.max_pool3d
    return (pool(missing.float(), [2 * n + 1 for n in near], stride=1, padding=near) > 0) & ~missing


def without(crops: Tensor, missing: Tensor) -> Tensor:
    """Crops (B, C, *S) with the mean of what is visible, channel by channel, in the missing places."""
    axes = tuple(range(2, crops.ndim))
    mean = (crops * ~missing).sum(axes, keepdim=True) / (~missing).sum(axes, keepdim=True).clamp_min(1)
    return torch.where(missing, mean, crops)


OBJECTIVE = Inpainting
