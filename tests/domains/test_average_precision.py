"""Average precision worked out by hand."""

import math

import numpy as np
import pytest

from domains.average_precision import average_precision


def test_average_precision__worked_out():
    """Five objects; hit, miss, hit, miss, hit by falling score: precision 1, 2/3, 3/5 up to a recall of 0.2, 0.4, 0.6.

    Of the 101 recalls 21 lie in [0, 0.2], 20 in each fifth after it, 40 are never reached.
    """
    hits = np.array([[1, 0, 1, 0, 1]])
    expected = (21 * 1 + 20 * 2 / 3 + 20 * 3 / 5) / 101
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert average_precision(scores, hits, 5) == pytest.approx([expected])
    shuffled = np.random.default_rng(0).permutation(5)
    assert average_precision(scores[shuffled], hits[:, shuffled], 5) == pytest.approx([expected])
    assert average_precision(np.full(5, 0.9), hits, 5) == pytest.approx([61 * 3 / 5 / 101])  # one threshold
    assert average_precision(np.zeros(0), np.zeros((1, 0), int), 5) == pytest.approx([0])
    assert math.isnan(average_precision(scores, hits, 0)[0])


def test_average_precision__what_is_ignored_is_neither_right_nor_wrong():
    scores, hits = np.array([0.9, 0.8, 0.7, 0.6]), np.array([[1, 0, 1, 0]] * 2)
    ignored = np.array([[0, 1, 0, 0], [1, 0, 0, 0]])
    first, second = average_precision(scores, hits, 2, ignored)
    assert first == pytest.approx(1)  # the wrong one between the two does not count
    assert second == pytest.approx(51 * (1 / 2) / 101)  # one of two objects, behind one that is wrong
