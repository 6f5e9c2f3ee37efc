"""Which GPUs a training gets: one file lock a device, so that two trainings on one machine never share one."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from domains.errors import SelfsightError, UsageError
from flows.stopping import Stop

LOOK_SECONDS = 1.0


@contextmanager
def devices(count: int, stop: Stop, *, present: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """The environment that shows a trainer `count` GPUs of its own; empty where there is no GPU: a CPU is shared.

    Held by this process, so that a killed one leaves none locked. It waits until enough of them are free.

    Args:
        count: of GPUs.
        stop: ends the waiting.
        present: ids of the GPUs there are; asked of CUDA by default.

    Raises:
        UsageError: there are fewer.
        Preempted: asked to stop while waiting.
    """
    here = _present() if present is None else list(present)
    if not here:
        yield {}
        return
    if count > len(here):
        raise UsageError(f"{count} devices are asked for, {len(here)} are here: set devices={len(here)} or fewer")
    told = False
    while True:
        stop.check()
        with ExitStack() as held:
            mine = _take(here, count, held)
            if len(mine) == count:
                yield {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
                return
        if not told:
            print(f"waiting for {count} free of {len(here)} GPUs", file=sys.stderr, flush=True)
            told = True
        time.sleep(LOOK_SECONDS)


def _take(here: Sequence[str], count: int, held: ExitStack) -> list[str]:
    """The first free ones, at most `count`, locked until `held` is closed."""
    folder, mine = _folder(), []
    for name in here:
        file = held.enter_context((folder / f"gpu-{name.replace('/', '-')}").open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        mine.append(name)
        if len(mine) == count:
            break
    return mine


def _present() -> list[str]:
    """Ids as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


def _folder() -> Path:
    """Of the locks; the machine's and not the home's, since two homes may share a GPU."""
    folder = Path(tempfile.gettempdir()) / f"selfsight-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise SelfsightError(f"{folder} belongs to somebody else: remove it, or set TMPDIR")
    return folder
