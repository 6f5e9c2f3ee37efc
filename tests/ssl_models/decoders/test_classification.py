"""The pooled classifier: what it computes, and that a place does not matter to it."""

import torch
from torch.nn import functional as F

from ssl_models.decoders.classification import PooledClassifier


def test_forward__normalised_mean_of_the_coarsest_map():
    torch.manual_seed(0)
    head, features = PooledClassifier(width=6, classes=3), [torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)]
    expected = F.layer_norm(features[-1].mean((2, 3)), (6,)) @ head.logits.weight.T + head.logits.bias
    assert torch.allclose(head(features), expected, atol=1e-6)
    moved = [features[0], features[1].roll(1, -1)]
    assert torch.allclose(head(features), head(moved), atol=1e-6)


def test_forward__gradient_reaches_the_features():
    features = [torch.randn(2, 6, 4, 4, 4, requires_grad=True)]
    PooledClassifier(width=6, classes=1)(features).sum().backward()
    assert features[0].grad.abs().sum() > 0
