"""The machine under a run: devices and precision, determinism, threads, signals, memory, versions."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class Flag:
    """An event that a signal's handler may set. The lock of `threading.Event` is not re-entrant: a second signal that
    comes while the handler of the first holds it waits for itself, forever.
    """

    def __init__(self) -> None:
        self._on = False

    def is_set(self) -> bool:
        return self._on

    def set(self) -> None:
        self._on = True

    def clear(self) -> None:
        self._on = False


stop_requested = Flag()
"""Set by SIGTERM or SIGINT (or a caller): the loop saves at the step's edge and raises Preempted."""
BURST_SECONDS = 1.0
"""Signals this close together are one request: a dying parent sends its death signal once a thread."""

PACKAGES = (
    "selfsight",
    "torch",
    "lightning",
    "monai",
    "mlflow",
    "prefect",
    "numpy",
    "safetensors",
    "blosc2",
    "nibabel",
)


class Machine(Protocol):
    """The part of a recipe (or of a job) that says where and how exactly numbers are computed."""

    @property
    def precision(self) -> str: ...
    @property
    def devices(self) -> int: ...
    @property
    def sharded(self) -> bool: ...


def fabric(settings: Machine) -> Fabric:
    """Lightning Fabric on the best accelerator here, launched, with deterministic settings in force.

    In a rank of several (`pipelines.ranks` starts them) it spreads gradients, or shards parameters too, over all of
    them. Fabric's own launcher would start this program again for each device, and every copy would wait for the
    store's lock that the first one holds.
    """
    from lightning.fabric import Fabric

    settle()
    several: dict[str, Any] = {"devices": 1}
    if settings.devices > 1:
        from lightning.fabric.plugins.environments import TorchElasticEnvironment
        from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy

        from pipelines.ranks import shard

        here, all_of_them = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        several = {"devices": here, "num_nodes": all_of_them // here, "plugins": [TorchElasticEnvironment()]}
        if settings.sharded:
            several["strategy"] = ModelParallelStrategy(shard, data_parallel_size=all_of_them, tensor_parallel_size=1)
        else:  # parts of an encoder may be left untouched by an objective
            several["strategy"] = DDPStrategy(find_unused_parameters=True)
    with _quiet_lightning():
        made = Fabric(accelerator="auto", precision=settings.precision, **several)  # type: ignore[arg-type]
        made.launch()
    return made


def settle() -> None:
    """Fixes what would make two equal runs differ: thread count, kernel choice, reduction order.

    An operation without a deterministic kernel (some CUDA backward passes) warns instead of failing: training on
    such a device works, only the promise of bit-equality does not hold there.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads())
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    _keep_freed_memory()


@cache
def _keep_freed_memory() -> None:
    """Large tensors reuse memory that this process has, instead of pages that the kernel must clear first.

    glibc gives every block above 128 kB back when it is freed, so that each activation of each step is paid for in
    page faults: a seventh of a training step on a CPU. No number depends on it.
    """
    allocator = ctypes.CDLL(None)
    if not hasattr(allocator, "mallopt"):  # not glibc
        return
    trim_threshold, mmap_threshold = -1, -3  # as in malloc.h
    allocator.mallopt(mmap_threshold, 2**30)
    allocator.mallopt(trim_threshold, 2**31 - 1)


@contextmanager
def inference(precision: str) -> Iterator[None]:
    """No gradients, the precision of training, deterministic settings."""
    settle()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
        yield


def threads() -> int:
    """Threads of one process: `SELFSIGHT_THREADS`, else `OMP_NUM_THREADS`, else the cores this process may use."""
    named = os.environ.get("SELFSIGHT_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return int(named) if named else len(os.sched_getaffinity(0))


def memory_format(spatial_axes: int) -> torch.memory_format:
    """The layout convolutions are fastest in: channels last for images and volumes."""
    return {2: torch.channels_last, 3: torch.channels_last_3d}.get(spatial_axes, torch.contiguous_format)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGTERM and SIGINT set `stop_requested`; another one, after `BURST_SECONDS`, kills as usual.

    Only the main thread may install it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        first.append(time.monotonic())
        stop_requested.set()
        if first[-1] - first[0] > BURST_SECONDS:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def peak_memory_mb() -> float:
    """Largest memory this process has held: of the accelerator when there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def versions() -> dict[str, str]:
    """Versions of what decides the numbers, for reports and run tags."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "threads": str(threads())}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keeps Fabric's banner about precision and devices away; its warnings pass."""
    logs = [logging.getLogger(f"lightning.{part}") for part in ("fabric", "pytorch")]  # its messages go to the latter
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
