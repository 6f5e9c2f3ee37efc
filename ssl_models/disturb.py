"""Disturbances: noise, blur, low contrast and another scanner on a network's inputs, to ask how much it minds them.

Each takes crops (B, C, *S) float32 as normalised by the contract, and whether the first axis of S is time, and gives
new crops of the same shape and units. What a crop becomes depends on that crop alone, and is the same every time. The
strengths were chosen by eye, before any model was judged: plain to see, and the image can still be read.

Source: the idea, and noise, blur and contrast: Hendrycks and Dietterich 2019 (arXiv 1903.12261).
Differs: one strength each; on normalised crops, in units of a channel's own spread and nothing cut off, so that it fits
MRI, X-rays and video alike; the scanner is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

NOISE = 0.3
"""Of the noise: standard deviation, in standard deviations of the channel."""
BLUR_PIXELS = 1.0
"""Standard deviation of the Gaussian that is blurred with, in pixels or voxels of the crop."""
CONTRAST = 0.5
"""What is left of every difference to the channel's mean."""
FIELD = 0.2
"""Brightness falls with exp(-FIELD * d^2), d from the middle of one edge; the crop reaches from -1 to 1."""
GAMMA = 0.6
"""Exponent of the brightness between the channel's least (0) and greatest (1) value."""
SEED = 0x5EED_D15
"""Of the noise."""


def noise(crops: Tensor, time_axis: bool = False) -> Tensor:
    """Gaussian noise of `NOISE` times each channel's standard deviation, the same pattern in every crop."""
    pattern = torch.randn(crops.shape[1:], generator=torch.Generator().manual_seed(SEED)).to(crops)
    return crops + NOISE * crops.std(_axes(crops), keepdim=True) * pattern


def blur(crops: Tensor, time_axis: bool = False) -> Tensor:
    """Gaussian blur of `BLUR_PIXELS` along every axis but time; at the edges with the pixels that there are."""
    for axis in _axes(crops)[time_axis:]:
        place = torch.arange(crops.shape[axis], dtype=crops.dtype, device=crops.device)
        weight = torch.exp(-((place[:, None] - place) / BLUR_PIXELS).square() / 2)
        weight = weight / weight.sum(1, keepdim=True)
        crops = (crops.movedim(axis, -1) @ weight.T).movedim(-1, axis)
    return crops


def contrast(crops: Tensor, time_axis: bool = False) -> Tensor:
    """Every value `CONTRAST` times as far from its channel's mean, which is kept."""
    mean = crops.mean(_axes(crops), keepdim=True)
    return mean + CONTRAST * (crops - mean)


def scanner(crops: Tensor, time_axis: bool = False) -> Tensor:
    """Another scanner or camera: a gamma curve, and brightness that falls off smoothly from the middle of one edge.

    The channel's least value counts as black and stays. The field is symmetric along the last axis, so that a mirrored
    image is disturbed in the same way, and does not change with time.
    """
    low, high = (extreme(crops, _axes(crops), keepdim=True) for extreme in (torch.amin, torch.amax))
    span = (high - low).clamp_min(1e-6)
    field = _field(tuple(crops.shape[2 + time_axis :])).to(crops)
    return low + span * field * ((crops - low) / span) ** GAMMA


Disturbance = Callable[[Tensor, bool], Tensor]
NAMES: dict[str, Disturbance] = {"noise": noise, "blur": blur, "contrast": contrast, "scanner": scanner}
WORDS = {
    "noise": f"Gaussian noise of {NOISE:g} standard deviations",
    "blur": f"a Gaussian blur (sigma {BLUR_PIXELS:g} pixel)",
    "contrast": f"{CONTRAST:.0%} of the contrast",
    "scanner": f"a gamma of {GAMMA:g} and brightness that falls to {math.exp(-4 * FIELD):.0%} from edge to edge",
}
"""What each is, with its strength: for reports, and for the keys of what was judged under it."""


class Disturbed(nn.Module):
    """A model that sees disturbed inputs: crops (B, C, *S) -> what `model` gives for them disturbed.

    Where a subject is seen through several windows, each is disturbed by itself. Noise differs between windows that
    overlap, so that their mean minds it a little less than a single window does.
    """

    def __init__(self, model: nn.Module, disturbance: str, *, time_axis: bool = False) -> None:
        """`disturbance` is one of `NAMES`; `time_axis` says whether the first axis of S is time."""
        super().__init__()
        self.model, self.disturb, self.time_axis = model, NAMES[disturbance], time_axis

    def forward(self, crops: Tensor) -> Tensor:
        with torch.autocast(crops.device.type, enabled=False):
            disturbed = self.disturb(crops.float(), self.time_axis)
        logits: Tensor = self.model(disturbed)
        return logits


def _axes(crops: Tensor) -> tuple[int, ...]:
    """The axes S."""
    return tuple(range(2, crops.ndim))


def _field(shape: tuple[int, ...]) -> Tensor:
    """(*shape) brightness with mean 1, brightest in the middle of the low edge of the last axis but one."""
    field = torch.ones(())
    for axis, size in enumerate(shape):
        centre = -1.0 if axis == len(shape) - 2 else 0.0
        field = field.unsqueeze(-1) * torch.exp(-FIELD * (torch.linspace(-1, 1, size) - centre).square())
    return field / field.mean()
