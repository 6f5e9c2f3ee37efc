"""What a command says and how it ends: the summary or one JSON object, one clear message, an exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from domains.errors import Preempted, SelfsightError
from flows.settings import find_home, prepare_environment
from flows.stopping import is_trainer

SCHEMA_VERSION = 1


@dataclass
class Command:
    """A running command: its home, and what it will have to say at the end."""

    home: Path
    result: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def done(self, result: dict[str, Any], *lines: str) -> None:
        """Sets the JSON object, and the lines that a person gets instead."""
        self.result, self.lines = result, list(lines)


@contextmanager
def command(home: Path | None, as_json: bool) -> Iterator[Command]:
    """Runs the body of a command; leaves the process with the exit code of what went wrong.

    With `as_json` everything that is printed meanwhile, by libraries too, goes to stderr; the last line of stdout is
    one JSON object.
    """
    answer, running = _stdout_becomes_stderr() if as_json else None, None
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped)
    try:
        found = find_home(home)
        prepare_environment(found)
        if not is_trainer():
            print(f"home: {found}", file=sys.stderr)
        running = Command(found)
        try:
            yield running
        except _Stopped as stopped:
            raise Preempted(f"stopped by {stopped}; what was finished is kept, the same command goes on") from None
    except SelfsightError as error:
        if os.environ.get("SELFSIGHT_DEBUG"):
            traceback.print_exc()
        elif not is_trainer():  # what a trainer has to say, the run that started it says
            print(f"error: {error}", file=sys.stderr)
        try:
            found_so_far = running.result if running else {}
            _answer(answer, {**found_so_far, "error": str(error), "exit_code": error.exit_code})
        finally:  # nobody may be there to read it: a killed run's trainer leaves all the same
            if isinstance(error, Preempted):
                _leave(error.exit_code)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        traceback.print_exc()
        _answer(answer, {"error": f"{type(error).__name__}: {error}", "exit_code": 1})
        raise SystemExit(1) from None
    if answer is None:
        print(*running.lines, sep="\n")
    else:
        _answer(answer, {"schema_version": SCHEMA_VERSION, "home": str(running.home), **running.result})


class _Stopped(BaseException):
    """Not an Exception: libraries that try imports or calls and swallow what they raise would swallow the stop."""


def _stopped(number: int, frame: FrameType | None) -> NoReturn:
    """Until a training loop or a run takes the signals over. Nothing half-written is kept, so leaving is safe.

    A trainer leaves at once, since whatever swallowed its only signal would train on; a second signal does so too.
    """
    if is_trainer():
        _leave(Preempted.exit_code)
    signal.signal(number, lambda *_: _leave(Preempted.exit_code))
    raise _Stopped(signal.Signals(number).name)


def _stdout_becomes_stderr() -> int:
    """Sends file descriptor 1 to 2; gives a descriptor of the stdout that was."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    return saved


def _answer(descriptor: int | None, value: dict[str, Any]) -> None:
    if descriptor is not None:
        sys.stdout.flush()
        with os.fdopen(descriptor, "w") as stdout:
            stdout.write(json.dumps(value) + "\n")


def _leave(code: int) -> NoReturn:
    """Ends the process at once. After a stop a thread may still be in a library's C code, where it can neither be
    interrupted nor survive the interpreter's end (a fatal error, exit -6); what is kept is on disk by then.
    """
    with suppress(RuntimeError, BrokenPipeError):  # in the middle of a print, which holds the buffer; nobody reads
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
