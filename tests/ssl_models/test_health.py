"""Collapse figures against closed forms."""

import math

import numpy as np
import pytest
import torch

from ssl_models import health


def test_rankme__orthogonal_is_the_rank_and_a_line_is_one() -> None:
    assert health.rankme(torch.eye(6)[:, :4]) == pytest.approx(4)
    assert health.rankme(torch.ones(10, 5)) == pytest.approx(1)
    assert health.rankme(torch.zeros(10, 5)) == pytest.approx(1)


def test_rankme__matches_numpy() -> None:
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    singular = np.linalg.svd(x.double().numpy(), compute_uv=False)
    p = singular / singular.sum()
    assert health.rankme(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert health.rankme(x) <= 8


def test_feature_std__even_directions_and_collapse() -> None:
    x = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    assert health.feature_std(x) == pytest.approx(1 / math.sqrt(64), rel=0.02)
    assert health.feature_std(torch.arange(1, 9).unsqueeze(1) * torch.ones(8, 5)) == pytest.approx(0, abs=1e-6)


def test_alignment__same_opposite_orthogonal() -> None:
    x = torch.eye(4)
    assert health.alignment(x, 3 * x) == pytest.approx(0)
    assert health.alignment(x, -x) == pytest.approx(4)
    assert health.alignment(x, x.roll(1, 0)) == pytest.approx(2)


def test_uniformity__collapsed_and_orthogonal() -> None:
    assert health.uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-6)
    assert health.uniformity(torch.eye(5)) == pytest.approx(-4)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ((1e-6, 1.001), True),
        ((0.0001, 1.08), True),
        ((0.00023, 1.09), False),
        ((0.0001, 1.11), False),
        ((1e-6, 3.0), False),
        ((0.009, 1.001), False),
    ],
)
def test_collapsed__only_where_both_figures_say_so(now: tuple[float, float], expected: bool) -> None:
    start = {"feature_std": 0.01, "rankme": 6.0}
    assert health.collapsed({"feature_std": now[0], "rankme": now[1]}, start) is expected
    assert not health.collapsed({"feature_std": 0.0, "rankme": 1.0}, {"feature_std": 0.0, "rankme": 1.0})
