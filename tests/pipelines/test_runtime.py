"""The machine: threads, signals, precision, memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from pipelines import runtime


def test_stop_on_signals__sets_the_flag_and_restores() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with runtime.stop_on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            assert runtime.stop_requested.is_set()
            os.kill(os.getpid(), signal.SIGTERM)  # of the same burst: still one request
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        runtime.stop_requested.clear()


BURST = """
import os, signal, sys, threading, time
from pipelines import runtime
signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
def many(seconds, number=signal.SIGTERM):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.kill(os.getpid(), number)
with runtime.stop_on_signals():
    sender = threading.Thread(target=many, args=(0.5,))
    sender.start()
    while sender.is_alive() or not runtime.stop_requested.is_set():
        pass
    print("one request", flush=True)
    time.sleep(runtime.BURST_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
"""


def test_stop_on_signals__a_burst_is_one_request_and_a_late_one_kills() -> None:
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", BURST], env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (3, "one request\n"), done.stderr


def test_stop_on_signals__outside_the_main_thread() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with runtime.stop_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_threads__environment_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert runtime.threads() == 3
    monkeypatch.setenv("SELFSIGHT_THREADS", "5")
    assert runtime.threads() == 5
    monkeypatch.delenv("SELFSIGHT_THREADS")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert runtime.threads() == len(os.sched_getaffinity(0))


def test_memory_format__by_spatial_axes() -> None:
    assert runtime.memory_format(2) is torch.channels_last
    assert runtime.memory_format(3) is torch.channels_last_3d
    assert runtime.memory_format(1) is torch.contiguous_format


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)])
def test_inference__precision_and_no_gradients(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with runtime.inference(precision):
        out = layer(torch.ones(2, 4))
    assert out.dtype is dtype and not out.requires_grad


def test_versions__name_what_decides_numbers() -> None:
    found = runtime.versions()
    assert found["torch"].startswith("2.") and int(found["threads"]) > 0
    assert runtime.peak_memory_mb() > 10
