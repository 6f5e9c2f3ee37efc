"""Probes against scikit-learn, hand-made neighbours, and a problem that only attention solves."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from ssl_models import probes


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    return torch.randn(count, 5, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 5), labels


def test_linear__is_the_logistic_regression_of_scikit_learn():
    (known, labels), (asked, _) = blobs(90, 0), blobs(40, 1)
    mean, deviation = known.mean(0), known.std(0, correction=0)
    # scikit-learn minimises the sum of losses plus |w|^2 / (2 C)
    reference = LogisticRegression(C=1 / (0.01 * 90), max_iter=2000, tol=1e-10)
    reference.fit(((known - mean) / deviation).numpy(), labels.numpy())
    expected = reference.predict_proba(((asked - mean) / deviation).numpy())
    np.testing.assert_allclose(probes.linear(known, labels, asked).numpy(), expected, atol=1e-4)


def test_knn__weighted_votes_of_the_nearest():
    known = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
    shares = probes.knn(known, torch.tensor([0, 1, 1, 2]), torch.tensor([[2.0, 0.0]]), neighbours=2, temperature=0.5)
    first, second = np.exp(1 / 0.5), np.exp(0.8 / 0.5)
    np.testing.assert_allclose(shares[0], [first / (first + second), second / (first + second), 0], rtol=1e-5)


def test_knn__fewer_known_than_neighbours():
    known, labels = blobs(6, 0)
    assert torch.allclose(probes.knn(known, labels, known, neighbours=20).sum(1), torch.ones(6))


def spotted(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One of 12 tokens is marked and shows the class; the others show classes at random."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=generator)
    shown = torch.randint(2, (count, 12), generator=generator)
    marked = torch.randint(12, (count,), generator=generator)
    shown[torch.arange(count), marked] = labels
    tokens = torch.stack([2.0 * shown - 1, torch.zeros(count, 12)], 2)
    tokens[torch.arange(count), marked, 1] = 1
    return tokens + 0.05 * torch.randn(tokens.shape, generator=generator), labels


def test_attentive__finds_the_token_that_tells():
    (known, labels), (asked, true) = spotted(200, 0), spotted(200, 1)
    attended = (probes.attentive(known, labels, asked).argmax(1) == true).float().mean()
    averaged = (probes.linear(known.mean(1), labels, asked.mean(1)).argmax(1) == true).float().mean()
    assert attended > 0.95 and averaged < 0.75, (attended, averaged)
    assert torch.equal(probes.attentive(known, labels, asked), probes.attentive(known, labels, asked))
