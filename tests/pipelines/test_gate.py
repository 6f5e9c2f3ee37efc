"""What the gate compares by: paired differences, resampled over groups."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.gate import Judged, paired


def test_paired__of_a_mean_over_cases_is_the_slow_reference() -> None:
    draw = np.random.default_rng(3)
    scores, gains = draw.random(12), draw.normal(0.1, 0.02, 12)

    def judged(values: np.ndarray) -> Judged:
        cases = [{"subject_id": f"{i:02}", "group_id": f"g{i // 2}", "metrics": {"dice": float(v)}}
                 for i, v in enumerate(values)]  # fmt: skip
        return Judged("k", {"primary": "dice", "cases": cases})

    found = paired(judged(scores + gains), judged(scores))
    assert found["mean"] == pytest.approx(gains.mean())
    of_groups = gains.reshape(6, 2).mean(1)
    means = [draw.choice(of_groups, 6).mean() for _ in range(20_000)]
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.002)
