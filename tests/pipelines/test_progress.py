"""Progress: plain lines on stderr where there is no terminal."""

from __future__ import annotations

import pytest

from pipelines import progress
from pipelines.progress import Progress


def test_progress__a_line_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress("pretrain", 20, done=10) as shown:
        for _ in range(10):
            shown.advance(loss=0.25)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert 2 <= len(lines) < 10
    assert lines[-1].startswith("pretrain: 20/20 steps") and "loss 0.25" in lines[-1] and "left" not in lines[-1]
    assert "left" in lines[0] and "steps/s" in lines[0]


def test_progress__bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    with Progress("evaluate", 3, unit="cases") as shown:
        shown.advance(3, dice="0.8")
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3725, "1:02:05")])
def test_clock__formats(seconds: float, text: str) -> None:
    assert progress._clock(seconds) == text
