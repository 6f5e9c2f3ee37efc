"""The pooled classifier: what it computes, that a place does not matter to it, and where a class comes from."""

import pytest
import torch
from torch import nn
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


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 2)])
def test_grad_cam__the_reference_formula_by_autograd(shape):
    torch.manual_seed(1)
    head = PooledClassifier(width=6, classes=3)
    nn.init.normal_(head.norm.weight)
    nn.init.normal_(head.norm.bias)
    last = torch.randn(2, 6, *shape, requires_grad=True)
    found, space = head.grad_cam([torch.randn(2, 4, 8, 8), last]), tuple(range(2, last.ndim))
    for k in range(3):
        (gradient,) = torch.autograd.grad(head([last])[:, k].sum(), last)
        weights = gradient.mean(space, keepdim=True)
        expected = (weights * last).sum(1).relu()
        assert torch.allclose(found[:, k], expected, rtol=1e-4, atol=1e-7) and expected.max() > 0
        if k == 0:  # places are compared with each other, whatever the logit
            assert (weights * last).sum().abs() < 1e-4 * (weights * last).abs().sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head.grad_cam([last]), found)


def test_grad_cam__only_where_it_speaks_for_the_class():
    head = PooledClassifier(width=2, classes=2)
    head.logits.weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    last = torch.zeros(1, 2, 4, 4)
    last[0, 0, 1, 2], last[0, 1, 3, 0] = 3.0, 1.0
    first, second = head.grad_cam([last])[0]
    assert first.nonzero().tolist() == [[1, 2]] and second.nonzero().tolist() == [[3, 0]]
