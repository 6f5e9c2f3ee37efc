"""Frame prediction: the future frames of a clip from the past ones, in pixels, next to copying the last frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_models.clips import Rollout, past_frames
from ssl_models.decoders.segmentation import SegmentationDecoder
from ssl_models.protocols import Batch, Encoder, Losses, Needs, pooled

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


class FramePrediction(nn.Module):
    """Mean squared error between the future half of a clip and what is painted from its past half.

    The encoder sees the past; the last slot of its coarsest map is rolled on in time, and a U-Net decoder paints each
    future slot, the last past frame beside it at every resolution. The encoder's finer maps are kept from the decoder:
    they show motion too, and the coarsest, which all heads build on, would be left out. What is painted is added to the
    last past frame, so that the network need only say what changes: copying is the trivial competitor, and `copy_mse`,
    `copy_psnr` and `copy_ssim` stand beside `mse`, `psnr` and `ssim` in the parts.

    Source: Gao et al. 2022 (arXiv 2206.05099).
    Differs: the encoder is ours and mixes time itself; a recurrent step takes the place of the translator, so that a
        clip of any length is served; the residual is on the last frame, which also is the skip.
    """

    needs = Needs(time=True, whole_batch=True)
    decoder = None

    def __init__(self, encoder: Encoder) -> None:
        """A predictor of frames around `encoder`."""
        super().__init__()
        self.encoder = encoder
        # Features have a large part in common; without running statistics a call leaves nothing behind.
        self.standardise = nn.BatchNorm2d(encoder.widths[-1], track_running_stats=False)
        self.rollout = Rollout(encoder.widths[-1])
        self.look = nn.ModuleList(nn.Conv3d(encoder.in_channels, width, 1) for width in encoder.widths[:-1])
        self.painter = SegmentationDecoder(
            widths=encoder.widths, strides=encoder.strides, out_channels=encoder.in_channels
        )

    def forward(self, batch: Batch) -> Losses:
        """The loss of one batch.

        Raises:
            ValueError: if the clips cannot be cut into past and future (`clips.past_frames`).
        """
        past, future = self._cut(batch.crops.flatten(0, 1))
        predicted, features = self._predict(past, future.shape[2])
        loss = (predicted - future).square().mean()
        embedding = pooled(features).detach().float().unflatten(0, batch.crops.shape[:2])[:, 0]
        copied = past[:, :, -1:].expand_as(future)
        parts = _figures(predicted.detach(), future, "") | _figures(copied, future, "copy_")
        return Losses(total=loss, parts=parts, embedding=embedding)

    @torch.no_grad()
    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """Panels (B, 1, T, H, W) of the middle channel of each first crop: original, predicted, last frame copied.

        The past frames are the same in all of them.
        """
        crops, middle = batch.crops[:, 0], batch.crops.shape[2] // 2
        past, future = self._cut(crops)
        predicted, _ = self._predict(past, future.shape[2])
        copied = past[:, :, -1:].expand_as(future)
        panels = {"original": future, "predicted": predicted, "copied": copied}
        return {name: torch.cat([past, shown], 2)[:, middle : middle + 1] for name, shown in panels.items()}

    def _cut(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T, H, W) -> past (B, C, P, H, W), future (B, C, T - P, H, W)."""
        past = past_frames(clips.shape[2], self.encoder.strides[-1][0])
        return clips[:, :, :past], clips[:, :, past:]

    def _predict(self, past: Tensor, frames: int) -> tuple[Tensor, list[Tensor]]:
        """(B, C, P, H, W) -> the next `frames` frames (B, C, frames, H, W) float32, features of the past."""
        features, last, strides = self.encoder(past), past[:, :, -1:], self.encoder.strides
        rolled = self.rollout(self.standardise(features[-1][:, :, -1]), frames // strides[-1][0])
        looks = [
            look(F.avg_pool3d(last, (1, *stride[1:]))).expand(-1, -1, frames // stride[0], -1, -1)
            for look, stride in zip(self.look, strides, strict=False)
        ]
        return last.float() + self.painter([*looks, rolled]).float(), features


def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """() peak signal-to-noise ratio in dB of clips (B, C, T, H, W), the mean over clips.

    The peak is the range of each true clip, since the preprocessing contract need not have one; at most 100 dB.
    """
    error = (predicted - true).square().flatten(1).mean(1)
    return (10 * (_range(true).square() / error.clamp_min(1e-20)).log10()).clamp(max=100).mean()


def ssim(predicted: Tensor, true: Tensor) -> Tensor:
    """() structural similarity in [-1, 1] of the frames of clips (B, C, T, H, W), the mean over frames and places.

    Gaussian window of 11 pixels, fitting into the frame, or the largest odd one that does; constants from the range of
    each true clip.

    Source: Wang et al. 2004, "Image quality assessment" (doi 10.1109/TIP.2003.819861).
    """
    size = min(SSIM_WINDOW, *(n - 1 + n % 2 for n in true.shape[-2:]))
    offset = torch.arange(size, device=true.device) - size // 2
    window = (-(offset**2) / (2 * SSIM_SIGMA**2)).exp()
    window = window / window.sum()

    def local_mean(x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 2).unsqueeze(1)
        return F.conv2d(F.conv2d(frames, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))

    peak = _range(true).repeat_interleave(true.shape[1] * true.shape[2]).view(-1, 1, 1, 1)
    small, large = (0.01 * peak).square(), (0.03 * peak).square()
    a, b = local_mean(predicted), local_mean(true)
    aa, bb, ab = (local_mean(x * y) for x, y in ((predicted, predicted), (true, true), (predicted, true)))
    likeness = (2 * a * b + small) * (2 * (ab - a * b) + large)
    return (likeness / ((a**2 + b**2 + small) * (aa - a**2 + bb - b**2 + large))).mean()


def _range(clips: Tensor) -> Tensor:
    """(B,) greatest minus smallest value."""
    low, high = clips.flatten(1).aminmax(dim=1)
    return (high - low).clamp_min(1e-6)


@torch.no_grad()
def _figures(predicted: Tensor, future: Tensor, prefix: str) -> dict[str, Tensor]:
    with torch.autocast(future.device.type, enabled=False):
        predicted, future = predicted.float(), future.float()
        mse = (predicted - future).square().mean()
        figures = {"mse": mse, "psnr": psnr(predicted, future), "ssim": ssim(predicted, future)}
    return {prefix + name: value for name, value in figures.items()}


OBJECTIVE = FramePrediction
