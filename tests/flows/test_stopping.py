"""A stop is a flag for the work, a signal for the trainer's group, and never an orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest

from domains.errors import Preempted
from flows import stopping
from flows.stopping import Stop, in_thread, owning_signals

CHILD_OF_CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def sleeping_group() -> tuple[subprocess.Popen[str], int]:
    """A process in a session of its own, and the id of its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD_OF_CHILD], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    return process, int(process.stdout.readline())


def is_gone(pid: int) -> bool:
    for _ in range(100):
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


def test_in_thread__gives_what_the_work_returns_or_raises():
    with owning_signals() as stop:
        assert in_thread(lambda: 42, stop) == 42
        with pytest.raises(KeyError, match="missing"):
            in_thread(lambda: {}["missing"], stop)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_thread__work_that_does_not_notice_is_abandoned(monkeypatch, number):
    monkeypatch.setattr(stopping, "LEAVE_SECONDS", 0.2)
    forever = threading.Event()
    with owning_signals() as stop:
        threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
        with pytest.raises(Preempted):
            in_thread(forever.wait, stop)
    forever.set()


def test_in_thread__work_that_checks_ends_by_itself():
    def work(stop: Stop) -> None:
        while True:
            stop.check()
            time.sleep(0.01)

    with owning_signals() as stop:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Preempted) as raised:
            in_thread(lambda: work(stop), stop)
        assert type(raised.value) is Preempted


def test_owning_signals__handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with owning_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_forwarding_to__a_stop_reaches_the_whole_group():
    process, child = sleeping_group()
    with owning_signals() as stop:
        with stop.forwarding_to(process):
            os.kill(os.getpid(), signal.SIGTERM)
            assert process.wait(timeout=5) == -signal.SIGTERM
        assert stop.asked()
    assert is_gone(child)


def test_forwarding_to__a_stop_that_came_first_reaches_it_too():
    process, child = sleeping_group()
    with owning_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with stop.forwarding_to(process):
            assert process.wait(timeout=5) == -signal.SIGTERM
    assert is_gone(child)


def test_ask__a_burst_is_one_request_and_a_later_one_kills(monkeypatch):
    """A dying parent sends its death signal once a thread: a trainer that is saving must survive that."""
    saves = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True));"
        "print('up', flush=True); [time.sleep(0.05) for _ in range(1200)]"
    )
    process = subprocess.Popen([sys.executable, "-c", saves], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "up\n"
    stop = Stop()
    with stop.forwarding_to(process):
        for _ in range(3):
            stop._ask(signal.SIGTERM, None)
        assert process.stdout.readline() == "asked\n" and process.poll() is None
        monkeypatch.setattr(stopping, "BURST_SECONDS", 0.0)
        stop._ask(signal.SIGTERM, None)
        assert process.wait(timeout=5) == -signal.SIGKILL


def test_overdue__a_trainer_that_does_not_save_in_time_is_killed(monkeypatch):
    monkeypatch.setattr(stopping, "SAVE_SECONDS", 0.2)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()

    def work() -> int:
        with stop.forwarding_to(process):
            return process.wait()

    with owning_signals() as stop:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert in_thread(work, stop) == -signal.SIGKILL


def test_die_with_parent__a_killed_parent_takes_the_trainer_with_it():
    trainer = "import flows.stopping, time; flows.stopping.die_with_parent(); print(1, flush=True); time.sleep(60)"
    parent = f"""
import os, subprocess, sys, time
environment = os.environ | {{"SELFSIGHT_PARENT": str(os.getpid())}}
child = subprocess.Popen([sys.executable, "-c", {trainer!r}], stdout=subprocess.PIPE, env=environment)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert is_gone(child)


def test_die_with_parent__a_parent_that_is_already_gone_is_noticed(monkeypatch):
    call = "from flows.stopping import die_with_parent; die_with_parent(); print('alive')"
    done = subprocess.run([sys.executable, "-c", call], env=os.environ | {"SELFSIGHT_PARENT": "1"}, capture_output=True)
    assert (done.returncode, done.stdout) == (75, b"")
