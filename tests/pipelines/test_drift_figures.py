"""Figures of crops: noise in its own units, blur and contrast where they belong; which facts of a manifest count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domains.manifest import Subject
from pipelines.drift_figures import NAMES, figures_of, quality_figures
from ssl_models.disturb import blur, contrast


def smooth(sides: tuple[int, ...] = (48, 48)) -> torch.Tensor:
    """(4, 1, *sides): waves, without noise."""
    grids = torch.meshgrid(*[torch.linspace(0, 6, side) for side in sides], indexing="ij")
    return torch.stack([torch.sin(sum(grids) + phase) for phase in range(4)])[:, None]


def named(crops: torch.Tensor) -> dict[str, float]:
    return dict(zip(NAMES, figures_of(crops).tolist(), strict=True))


@pytest.mark.parametrize("sides", [(48, 48), (12, 40, 40)])
def test_figures_of__noise_is_measured_in_its_own_units(sides):
    torch.manual_seed(0)
    crops = smooth(sides)
    assert named(crops)["noise"] < 0.01
    assert named(crops + 0.2 * torch.randn_like(crops))["noise"] == pytest.approx(0.2, rel=0.05)


def test_figures_of__blur_lowers_sharpness_and_contrast_the_deviation_alone():
    torch.manual_seed(0)
    crops = smooth() + 0.3 * torch.randn(4, 1, 48, 48)
    usual, blurred, flat = named(crops), named(blur(crops)), named(contrast(crops))
    assert blurred["sharpness"] < 0.7 * usual["sharpness"]
    assert flat["deviation"] == pytest.approx(usual["deviation"] / 2, rel=1e-4)
    assert flat["sharpness"] == pytest.approx(usual["sharpness"], rel=1e-4)
    assert flat["mean"] == pytest.approx(usual["mean"], abs=1e-5)
    assert usual["p5"] < usual["p50"] < usual["p95"]


def test_figures_of__channels_are_kept_apart():
    crops = torch.cat([torch.zeros(2, 1, 9, 9), torch.ones(2, 1, 9, 9)], 1)
    figures = figures_of(crops)
    assert figures.shape == (2 * len(NAMES),) and (figures[0], figures[len(NAMES)]) == (0, 1)


def test_quality_figures__measured_values_count_and_names_times_and_counts_do_not():
    def subject(i: int, **quality: object) -> Subject:
        seconds = {"black_seconds": float(i), "time": {"from_seconds": float(i)}}
        facts = {"quality": quality, "shape": [10, i], "view": "AP", "frames": i, "same": 1.5, **seconds}
        return Subject(subject_id=str(i), group_id=str(i), split_bucket=0, entry="", content_digest="", facts=facts)

    trained = [subject(i, light=float(i), snr=None if i == 3 else i / 2, rare=1.0 if i else None) for i in range(10)]
    trained = [
        s.model_copy(update={"facts": s.facts | ({"seldom": 0.5 * i} if i < 5 else {})}) for i, s in enumerate(trained)
    ]
    names, mine, theirs = quality_figures(trained, [subject(90), subject(91, light=7.5)])
    assert names == ["Quality light", "Quality snr"]
    assert mine.shape == (10, 2) and mine[3, 1] == np.median([i / 2 for i in range(10) if i != 3])
    assert theirs[:, 0].tolist() == [4.5, 7.5], "what is missing is as usual"
    assert quality_figures([subject(1)], [subject(2)])[1].shape == (1, 0)
