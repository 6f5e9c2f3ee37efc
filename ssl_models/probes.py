"""Probes: what a frozen encoder's features tell, asked by nearest neighbours, a line, or attention over tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTIVE_STEPS = 200


def knn(features: Tensor, labels: Tensor, asked: Tensor, *, neighbours: int = 20, temperature: float = 0.07) -> Tensor:
    """(M, K) class shares among the nearest `neighbours` of each asked feature, weighted by exp(cosine / temperature).

    Args:
        features: (N, E) with known labels.
        labels: (N,) int64 in [0, K).
        asked: (M, E).
        neighbours: at most; all N where there are fewer.
        temperature: of the weights.

    Source: Wu et al. 2018 (arXiv 1805.01978), section 3.4.
    """
    similar = F.normalize(asked.float(), dim=1) @ F.normalize(features.float(), dim=1).T
    nearest, index = similar.topk(min(neighbours, len(features)), dim=1)
    votes = F.one_hot(labels[index], int(labels.max()) + 1) * (nearest / temperature).exp().unsqueeze(2)
    return votes.sum(1) / votes.sum((1, 2)).unsqueeze(1)


def linear(features: Tensor, labels: Tensor, asked: Tensor, *, penalty: float = 1e-2) -> Tensor:
    """(M, K) probabilities of a logistic regression on standardised features, fitted to the end by L-BFGS.

    Args:
        features: (N, E) with known labels.
        labels: (N,) int64 in [0, K).
        asked: (M, E).
        penalty: times half the squared weights, beside the mean cross-entropy over the N.

    Source: the linear evaluation of Zhang et al. 2016 (arXiv 1603.08511).
    Differs: a convex fit instead of steps of gradient descent, so that it has no schedule to tune.
    """
    mean, deviation = features.double().mean(0), features.double().std(0, correction=0).clamp_min(1e-6)
    known, asked = (features.double() - mean) / deviation, (asked.double() - mean) / deviation
    classes = int(labels.max()) + 1
    weight = torch.zeros(known.shape[1], classes, dtype=torch.float64, device=known.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, device=known.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(known @ weight + bias, labels) + penalty / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return (asked @ weight + bias).softmax(1).detach().float()


def attentive(tokens: Tensor, labels: Tensor, asked: Tensor, *, seed: int = 0) -> Tensor:
    """(M, K) probabilities of one learned query that attends to an encoder's tokens, then a line.

    Args:
        tokens: (N, T, E), T places of a feature map, with known labels.
        labels: (N,) int64 in [0, K).
        asked: (M, T, E).
        seed: of the first weights.

    Source: the attentive probe of Bardes et al. 2024 (arXiv 2404.08471).
    Differs: one head of attention and no perceptron after it, for archives of hundreds, not millions.
    """
    mean, deviation = tokens.float().mean((0, 1)), tokens.float().std((0, 1)).clamp_min(1e-6)
    known, asked = (tokens.float() - mean) / deviation, (asked.float() - mean) / deviation
    generator, width, classes = torch.Generator().manual_seed(seed), tokens.shape[2], int(labels.max()) + 1
    query = nn.Parameter(torch.randn(width, generator=generator).to(known) * 0.02)
    weight = nn.Parameter(torch.zeros(width, classes).to(known))
    bias = nn.Parameter(torch.zeros(classes).to(known))
    optimizer = torch.optim.AdamW([query, weight, bias], lr=1e-2, weight_decay=1e-2)

    def logits(x: Tensor) -> Tensor:
        share = (x @ query * width**-0.5).softmax(1)
        return (share.unsqueeze(2) * x).sum(1) @ weight + bias

    with torch.enable_grad():
        for _ in range(ATTENTIVE_STEPS):
            optimizer.zero_grad()
            F.cross_entropy(logits(known), labels).backward()
            optimizer.step()
    with torch.no_grad():
        return logits(asked).softmax(1)
