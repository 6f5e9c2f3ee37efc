"""Motion prediction: from past frames, where each place of the picture will move next; targets by block matching."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.clips import past_frames
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled

SMOOTH_PIXELS = 0.5
"""Where the loss turns from squared to absolute: about what block matching is wrong by."""


class MotionPrediction(nn.Module):
    """Smooth absolute error between the next motion of each cell and what is told from the frames before it.

    The encoder sees all frames but those of the last slot of its coarsest map; asked is the motion, in pixels, from the
    last frame it sees to the next one, which it does not see. To match frames is therefore not enough: what moves must
    be found where it is by now, and its motion carried on. Cells where the match is in doubt do not count; moving and
    still cells count the same, since most of a picture may stand still.

    Source: motion as the pretext Wang et al. 2019 (arXiv 1904.03597); pseudo-labels from flow Pathak et al. 2016
        (arXiv 1612.06370).
    Differs: dense motion by block matching instead of statistics of TV-L1 flow; the frame it leads to is not shown.
    """

    needs = Needs(time=True, whole_batch=True)
    decoder = None

    def __init__(self, encoder: Encoder, *, reach_pixels: int = 6) -> None:
        """A predictor of motion around `encoder`.

        Args:
            encoder: is trained; a cell is a place of its coarsest map.
            reach_pixels: the longest motion along an axis from frame to frame that is searched for.
        """
        super().__init__()
        self.encoder, self.reach_pixels = encoder, reach_pixels
        width = encoder.widths[-1]
        self.head = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, 2, 1))

    def forward(self, batch: Batch) -> Losses:
        """The loss of one batch.

        Raises:
            ValueError: if too few frames are left to see (`clips.past_frames`).
        """
        clips = batch.crops.flatten(0, 1)
        predicted, features = self._predict(clips)
        flow, trusted = self._target(clips)
        moving = flow.square().sum(1, keepdim=True).sqrt() > SMOOTH_PIXELS
        weight = balanced(moving, trusted)
        with torch.autocast(clips.device.type, enabled=False):
            errors = F.smooth_l1_loss(predicted, flow, reduction="none", beta=SMOOTH_PIXELS).sum(1, keepdim=True)
            loss = (errors * weight).sum()
        parts = {
            "error_pixels": ((predicted.detach() - flow).square().sum(1, keepdim=True).sqrt() * weight).sum(),
            "still_error_pixels": (flow.square().sum(1, keepdim=True).sqrt() * weight).sum(),
            "trusted": trusted.float().mean(),
            "moving": (moving & trusted).float().mean(),
        }
        embedding = pooled(features).detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        return Losses(total=loss, parts=parts, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, T, H, W) of each first crop: original (middle channel); then, the same in every frame, how far
        each cell moves next in pixels: matched (0 where in doubt) and predicted."""
        crops, middle = batch.crops[:, 0], batch.crops.shape[2] // 2
        flow, trusted = self._target(crops)

        def panel(motion: Tensor) -> Tensor:
            far = F.interpolate(motion.square().sum(1, keepdim=True).sqrt(), size=crops.shape[-2:])
            return far.unsqueeze(2).expand(-1, -1, crops.shape[2], -1, -1)

        return {
            "original": crops[:, middle : middle + 1],
            "matched": panel(flow * trusted),
            "predicted": panel(self._predict(crops)[0]),
        }

    def _seen(self, clips: Tensor) -> int:
        return past_frames(clips.shape[2], self.encoder.strides[-1][0], future_slots=1)

    def _predict(self, clips: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, C, T, H, W) -> motion (B, 2, h, w) float32, features of the frames seen."""
        features = self.encoder(clips[:, :, : self._seen(clips)])
        return self.head(features[-1][:, :, -1]).float(), features

    @torch.no_grad()
    def _target(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        seen, (_, *cell) = self._seen(clips), self.encoder.strides[-1]
        return block_motion(clips[:, :, seen - 1], clips[:, :, seen], (cell[0], cell[1]), self.reach_pixels)


def block_motion(frame: Tensor, after: Tensor, block: tuple[int, int], reach: int) -> tuple[Tensor, Tensor]:
    """Where each block of `frame` is in `after`, by the least squared difference among all shifts up to `reach`.

    Around the best whole pixel a parabola through its neighbours along each axis gives the fraction. A match is trusted
    if it leaves less than half of the mean difference over all shifts and is not at the edge of the search: a block
    without texture, under noise or with a longer motion is not.

    Args:
        frame: (B, C, H, W); compared is the mean over channels.
        after: (B, C, H, W).
        block: height and width of a block in pixels; divides H and W.
        reach: pixels.

    Returns:
        (B, 2, H / block, W / block) float32 motion in pixels, down and to the right, and (B, 1, H / block, W / block)
        bool, where it is trusted.
    """
    grey, around = frame.float().mean(1, keepdim=True), after.float().mean(1, keepdim=True)
    size, (height, width) = 2 * reach + 1, grey.shape[-2:]
    around = F.pad(around, [reach] * 4)
    inside = F.pad(torch.ones_like(grey[:1]), [reach] * 4)
    costs = []
    for y in range(size):
        for x in range(size):
            here = (..., slice(y, y + height), slice(x, x + width))
            cost = F.avg_pool2d((around[here] - grey).square(), block)
            whole = F.avg_pool2d(inside[here], block) == 1  # a block that leaves the picture is not compared
            costs.append(torch.where(whole, cost, torch.inf))
    volume = torch.cat(costs, 1)
    least, index = volume.min(1, keepdim=True)
    finite = volume.isfinite()
    mean = volume.where(finite, 0).sum(1, keepdim=True) / finite.sum(1, keepdim=True)
    best = torch.cat([index // size, index % size], 1)
    motion, interior = (best - reach).float(), torch.ones_like(index, dtype=torch.bool)
    for axis, stride in ((0, size), (1, 1)):
        edge = (best[:, axis : axis + 1] == 0) | (best[:, axis : axis + 1] == size - 1)
        low = volume.gather(1, (index - stride).clamp(0, size**2 - 1))
        high = volume.gather(1, (index + stride).clamp(0, size**2 - 1))
        usable = ~edge & low.isfinite() & high.isfinite()
        bend = (low + high - 2 * least).clamp_min(1e-12)
        fraction = ((low - high) / (2 * bend)).clamp(-0.5, 0.5)
        motion[:, axis : axis + 1] += torch.where(usable, fraction, 0)
        interior &= ~edge
    return motion, interior & (least < 0.5 * mean)


def balanced(moving: Tensor, trusted: Tensor) -> Tensor:
    """(B, 1, h, w) weights that sum to 1, 0 where not `trusted`; moving cells together weigh as much as still ones."""
    kinds = [kind.float() / kind.sum() for kind in (moving & trusted, ~moving & trusted) if kind.any()]
    return sum(kinds, torch.zeros_like(trusted, dtype=torch.float32)) / max(1, len(kinds))


OBJECTIVE = MotionPrediction
