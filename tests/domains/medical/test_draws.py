"""Streams by seed."""

import torch

from domains.medical.draws import Draws


def test_draws__rows_follow_their_seeds():
    a = Draws.of(torch.tensor([5, 2**61]), 1).uniform(3)
    b = Draws.of(torch.tensor([2**61, 5]), 1).uniform(3)
    assert torch.equal(a, b.flip(0)) and not torch.equal(a[0], a[1])
    assert not torch.equal(a, Draws.of(torch.tensor([5, 2**61]), 2).uniform(3))


def test_draws__normal():
    noise = Draws.of(torch.arange(4), 0).normal(1000)
    assert noise.shape == (4, 1000) and abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
