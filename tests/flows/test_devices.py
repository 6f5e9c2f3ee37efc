"""A GPU is one training's: the second one takes another, or waits."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest

from domains.errors import Preempted, UsageError
from flows import devices as module
from flows.devices import devices
from flows.stopping import Stop


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)


def stopped() -> Stop:
    stop = Stop()
    stop._ask(15, None)
    return stop


def test_devices__without_a_gpu_the_environment_stays_as_it_is():
    with devices(1, Stop(), present=[]) as first, devices(1, Stop(), present=[]) as second:
        assert first == second == {}


def test_devices__each_training_has_its_own():
    with devices(1, Stop(), present=["2", "5", "7"]) as first, devices(2, Stop(), present=["2", "5", "7"]) as second:
        assert first == {"CUDA_VISIBLE_DEVICES": "2"} and second == {"CUDA_VISIBLE_DEVICES": "5,7"}


def test_devices__waits_for_a_free_one_and_keeps_none_meanwhile():
    got = threading.Event()

    def second() -> None:
        with devices(2, Stop(), present=["0", "1"]):
            got.set()

    with devices(1, Stop(), present=["0", "1"]):
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not got.wait(0.2)
        with ExitStack() as other:  # the one that is free is not held by who waits for two
            other.enter_context(devices(1, Stop(), present=["1"]))
    assert got.wait(5)
    waiting.join()


def test_devices__a_stop_ends_the_waiting_and_more_than_there_are_is_refused():
    with devices(1, Stop(), present=["0"]), pytest.raises(Preempted), devices(1, stopped(), present=["0"]):
        pass
    with pytest.raises(UsageError, match="devices=1"), devices(2, Stop(), present=["0"]):
        pass


def test_devices__a_killed_holder_leaves_it_free(tmp_path):
    hold = """
import sys, time
from flows import devices as module
from flows.stopping import Stop
module.tempfile.gettempdir = lambda: sys.argv[1]
with module.devices(1, Stop(), present=["0"]):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    with devices(1, Stop(), present=["0"]) as mine:
        assert mine
