"""Entropy of a mask against its closed form."""

import numpy as np
import pytest

from domains.medical.uncertainty import case_uncertainty, entropy


def test_entropy__closed_form():
    shares = np.array([[0.5, 1.0, 0.9], [0.5, 0.0, 0.1]], np.float32)
    assert entropy(shares) == pytest.approx([1.0, 0.0, -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))], abs=1e-5)
    assert entropy(np.full((3, 2), 1 / 3)) == pytest.approx([1.0, 1.0])


def test_case_uncertainty__inside_the_mask_or_the_highest():
    shares = np.array([[0.2, 0.5, 0.9], [0.8, 0.5, 0.1]])
    assert case_uncertainty(shares, np.array([1, 0, 0])) == pytest.approx(float(entropy(shares)[0]), abs=1e-6)
    assert case_uncertainty(shares, np.zeros(3)) == pytest.approx(1.0)
