"""Several ranks of one training: started by torchrun's launcher or by Ray, below the lock of the process that waits."""

from __future__ import annotations

import copyreg
import ctypes
import json
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, distributed, nn

from domains import errors
from domains.errors import SelfsightError
from pipelines import runtime
from pipelines.fan_out import on_ray, ray_here
from pipelines.tracking import Tracker

MEET = "SELFSIGHT_RANKS_MEET"
"""A rank's folder for rendezvous, errors and the word to stop; shared with the process that started it."""
SAVE_SECONDS = 120
PR_SET_PDEATHSIG = 1
Work = Callable[[Any, Any], object]
"""(job, tracker) -> whatever; a function of a module."""


def rank() -> int:
    """The place of this process among the ranks of its training; 0 where there is one."""
    return distributed.get_rank() if count() > 1 else 0


def count() -> int:
    """How many ranks this training has."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def together(work: Work, job: Any, tracker: Any) -> None:
    """Does `work(job, tracker)` in `job.devices` processes that know each other, and waits for all of them.

    They get copies of the job; rank 0 logs to the tracker's run, so this process must not log meanwhile. When one ends
    badly, or this process dies, the others are ended. With `SELFSIGHT_FANOUT=ray` they are spread over the cluster
    (`Ray Train`), whose machines must all see the home; otherwise they are on this machine.

    Raises:
        SelfsightError: of the type that a rank ended with, with its words.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=job.folder) as meet, _telling_of_a_stop(Path(meet)):
        packed = pickle.dumps((work, job, tracker))
        try:
            (_start_on_ray if on_ray() else _start_here)(packed, job.devices, meet)
        except Exception as error:  # of many kinds: a rank's own error, its death, the launcher's
            raise _what_happened(Path(meet), job.devices, error) from error


def stop_requested() -> bool:
    """Whether this rank, or the process that waits for it, was asked to stop."""
    return runtime.stop_requested.is_set() or (MEET in os.environ and Path(os.environ[MEET], "stop").exists())


def mean(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Each figure averaged over the ranks, the same numbers on all of them."""
    if count() == 1:
        return values
    together = torch.tensor(list(values.values()), dtype=torch.float64).to(device)
    distributed.all_reduce(together)
    return dict(zip(values, (together / count()).tolist(), strict=True))


def meet() -> None:
    """Waits until every rank is here."""
    if count() > 1:
        distributed.all_reduce(torch.zeros(1, device="cuda" if torch.cuda.is_available() else "cpu"))


def spread(fabric: Any, module: nn.Module) -> nn.Module:
    """What is called in the module's place, so that its gradients become those of all ranks' samples together."""
    return module if count() == 1 else fabric.strategy.setup_module(module)


def shard(module: nn.Module, mesh: Any) -> nn.Module:
    """Spreads parameters, gradients and optimiser state over the ranks: a transformer's blocks each, then the rest."""
    from torch.distributed.fsdp import fully_shard

    for part in list(module.modules()):
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"])
    return module


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or what all ranks have of it; then every rank must ask."""
    full: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def shared_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as `like` is: itself, or this rank's part of it."""
    if not hasattr(like, "full_tensor") or tensor.ndim == 0:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]


class Silent:
    """The tracker of every rank but the first."""

    def log(self, step: int, metrics: Any) -> None:
        """Rank 0 logs."""

    def note(self, text: str) -> None:
        """Rank 0 notes."""


def _start_here(packed: bytes, devices: int, meet: str) -> None:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Rendezvous by files, and no store that listens on the network: the ranks are all here.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    threads = max(1, runtime.threads() // devices)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=devices, run_id=Path(meet).name, max_restarts=0, rdzv_backend="c10d",
        rdzv_endpoint=f"{meet}/rendezvous", rdzv_configs={"store_type": "file"}, local_addr="127.0.0.1",
        signals_to_handle="SIGHUP", shutdown_timeout=SAVE_SECONDS,
    )  # fmt: skip
    elastic_launch(config, _rank_here)(packed, meet, os.getpid(), threads)


def _rank_here(packed: bytes, meet: str, parent: int, threads: int) -> None:
    """A process of torchrun's launcher: it dies with the one that holds the lock."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    os.environ |= {"SELFSIGHT_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")  # its semaphores confuse the tracker that ranks share
    distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo", init_method=f"file://{meet}/group",
        rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]),
    )  # fmt: skip
    _work(packed, meet)
    distributed.destroy_process_group()


def _start_on_ray(packed: bytes, devices: int, meet: str) -> None:
    ray_here()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        _rank_on_ray,
        train_loop_config={"packed": packed, "meet": meet},
        scaling_config=ScalingConfig(num_workers=devices, use_gpu=torch.cuda.is_available()),
        run_config=RunConfig(storage_path=f"{meet}/ray", failure_config=FailureConfig(max_failures=0)),
    ).fit()


def _rank_on_ray(config: dict[str, Any]) -> None:
    _work(config["packed"], config["meet"])


def _work(packed: bytes, meet: str) -> None:
    """In a rank: the work; its error is left for the process that waits."""
    os.environ[MEET] = meet
    Path(meet, f"began-{rank()}").touch()
    work, job, tracker = pickle.loads(packed)
    try:
        work(job, tracker)
    except SelfsightError as error:
        _leave(meet, {"kind": type(error).__name__, "text": str(error)}, error.exit_code)
    except Exception as error:
        if os.path.exists(meet):  # else the others are being ended, and this is its echo
            traceback.print_exc()
            _leave(meet, {"kind": "", "text": f"{type(error).__name__}: {error}"}, 1)
    Path(meet, f"began-{rank()}").unlink()
    if isinstance(tracker, Tracker):
        tracker.close("RUNNING")  # sends what is left; the process that waits says how it ended


def _leave(meet: str, error: dict[str, str], code: int) -> NoReturn:
    path = Path(meet, f"error-{rank()}.json")
    path.with_suffix(".part").write_text(json.dumps(error))
    os.replace(path.with_suffix(".part"), path)
    sys.stderr.flush()
    os._exit(code)


def _what_happened(meet: Path, devices: int, error: Exception) -> SelfsightError:
    """What the rank at fault said, or that it died without a word; others fail only since it is gone."""
    said = sorted(meet.glob("error-*.json"), key=lambda path: path.stat().st_mtime_ns)
    each = [json.loads(path.read_text()) for path in said]
    for one in each:
        if one["kind"]:
            kind: type[SelfsightError] = getattr(errors, one["kind"])
            return kind(one["text"])
    began = {int(path.name.removeprefix("began-")) for path in meet.glob("began-*")}
    silent = began - {int(path.stem.removeprefix("error-")) for path in said}
    if silent:
        text = ", ".join(f"rank {rank}" for rank in sorted(silent)) + f" of {devices} died without a word: killed?"
    else:
        text = each[0]["text"] if each else f"{type(error).__name__}: {error}"
    return SelfsightError(f"a rank ended: {text}; the last checkpoint is kept, the same command goes on")


@contextmanager
def _telling_of_a_stop(meet: Path) -> Iterator[None]:
    """Meanwhile a stop that this process is asked for is written where the ranks look at every step."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            if runtime.stop_requested.is_set():
                (meet / "stop").touch()
                return

    thread = threading.Thread(target=watch, name="stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _tracker_of_rank(folder: Path, home: Path, about: dict[str, Any]) -> Any:
    """In a rank: the tracker of the same run where this is rank 0."""
    return Tracker(folder, home, **about) if rank() == 0 else Silent()


def _tracker_parts(tracker: Tracker) -> Any:
    about = {key: tracker._about[key] for key in ("experiment", "run_name", "params", "tags")}
    return _tracker_of_rank, (tracker.folder, tracker.home, about)


copyreg.pickle(Tracker, _tracker_parts)
