"""Frame prediction: PSNR and SSIM against a published implementation, copying beside it, and that it beats copying."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from learning import SMALL_CLIP, probe_accuracies, small_motions
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ssl_models import encoders, objectives
from ssl_models.objectives.frame_prediction import FramePrediction, psnr, ssim


def predictor(name: str = "resunet") -> FramePrediction:
    torch.manual_seed(0)
    encoder = encoders.build(name, size="tiny", in_channels=1, geometry=SMALL_CLIP)
    built = objectives.build("frame_prediction", encoder, settings={}, painter=None)
    assert isinstance(built, FramePrediction)
    return built


def clips(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    true = torch.randn(3, 2, 4, 20, 17, generator=draw)
    return true + 0.5 * torch.randn(true.shape, generator=draw), true


def test_ssim__equals_torchmetrics() -> None:
    predicted, true = clips()
    expected = []
    for a, b in zip(predicted, true, strict=True):
        span = (b.max() - b.min()).item()
        _, full = structural_similarity_index_measure(
            a.transpose(0, 1), b.transpose(0, 1), data_range=span, return_full_image=True
        )
        # torchmetrics reflects the image at its border and counts the border too; the paper's windows stay inside.
        expected.append(full[..., 5:-5, 5:-5].mean().item())
    assert ssim(predicted, true).item() == pytest.approx(np.mean(expected), abs=1e-5)
    assert ssim(true, true).item() == pytest.approx(1)


def test_ssim__frames_smaller_than_the_window() -> None:
    predicted, true = clips()
    small = ssim(predicted[..., :8, :8], true[..., :8, :8])
    assert torch.isfinite(small) and 0 < small < 1


def test_psnr__equals_torchmetrics() -> None:
    predicted, true = clips()
    expected = [
        float(peak_signal_noise_ratio(a, b, data_range=(b.max() - b.min()).item()))
        for a, b in zip(predicted, true, strict=True)
    ]
    assert psnr(predicted, true).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert psnr(true, true) == 100


@pytest.mark.parametrize("encoder", encoders.NAMES)
def test_forward__copy_is_the_last_past_frame_and_the_future_is_not_seen(encoder: str) -> None:
    if not encoders.takes(encoder, SMALL_CLIP):
        pytest.skip(f"{encoder} does not take these clips")
    objective, (batch, _) = predictor(encoder), small_motions(2, 0)
    crops = batch.crops[:, 0]
    losses = objective(batch)
    copied, future = crops[:, :, 1:2].numpy(), crops[:, :, 2:].numpy()
    assert losses.parts["copy_mse"].item() == pytest.approx(((copied - future) ** 2).mean(), rel=1e-5)
    assert losses.total.item() == pytest.approx(losses.parts["mse"].item())
    painted = objective.examples(batch)["predicted"]
    assert torch.equal(painted[:, :, :2], crops[:, :, :2])
    assert losses.total.item() == pytest.approx(((painted[:, :, 2:] - crops[:, :, 2:]) ** 2).mean().item(), rel=1e-5)
    other = batch.crops.clone()
    other[:, :, :, 2:] = 0
    assert torch.equal(objective.examples(replace(batch, crops=other))["predicted"], painted)


def test_forward__a_clip_that_cannot_be_halved_is_refused() -> None:
    objective, (batch, _) = predictor(), small_motions(1, 0)
    with pytest.raises(ValueError, match="a clip of 5 frames cannot be cut"):
        objective(replace(batch, crops=batch.crops[:, :, :, :5]))


def test_frame_prediction__learns_motion() -> None:
    before, after = probe_accuracies("frame_prediction", small_motions, SMALL_CLIP, steps=60)
    assert after > before + 0.1, (before, after)


def test_frame_prediction__beats_copying_on_clips_it_has_not_seen() -> None:
    objective = predictor()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=2e-3)
    for step in range(40):
        objective(small_motions(16, 100 + step)[0]).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        parts = objective(small_motions(64, 7)[0]).parts
    assert parts["mse"] < 0.9 * parts["copy_mse"] and parts["psnr"] > parts["copy_psnr"]
