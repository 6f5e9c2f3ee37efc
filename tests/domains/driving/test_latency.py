"""Latency percentiles from a histogram."""

import numpy as np

from domains.driving.latency import Latency


def test_percentiles__those_of_numpy_to_a_step_of_the_histogram():
    seconds = np.random.default_rng(0).gamma(2, 0.004, 500)
    latency = Latency()
    for one in seconds:
        latency.add("model", float(one), 1)
    found = latency.percentiles()["model"]
    for q in (50, 95, 99):
        expected = np.percentile(seconds, q, method="inverted_cdf") * 1000
        assert abs(found[f"p{q}"] - expected) <= 0.06


def test_add__a_batch_counts_each_of_its_frames():
    latency = Latency()
    latency.add("model", 0.4, 4)  # four frames of 100 ms
    latency.add("model", 0.2, 1)
    assert latency.percentiles()["model"] == {"p50": 100.0, "p95": 200.0, "p99": 200.0}


def test_timed__same_items():
    latency = Latency()
    assert list(latency.timed("decode", [[1, 2], [3]], len)) == [[1, 2], [3]]
    assert set(latency.percentiles()) == {"decode"}
