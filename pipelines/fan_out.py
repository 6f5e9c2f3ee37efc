"""Fan-out: one function over many items, on the threads of this machine or on a Ray cluster; results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from domains.errors import SelfsightError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

FANOUT = "SELFSIGHT_FANOUT"
"""threads (default) or ray."""
STARTS = 3
RETRIES = 3
"""How often Ray gives an item to another worker when one dies with it."""


def on_ray() -> bool:
    """Whether work is fanned out on Ray.

    Raises:
        UsageError: the setting is neither threads nor ray.
    """
    named = os.environ.get(FANOUT) or "threads"
    if named not in ("threads", "ray"):
        raise UsageError(f"{FANOUT} is {named!r}; it may be threads (this machine) or ray (a cluster, RAY_ADDRESS)")
    return named == "ray"


def map_files(do: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`do(item)` for every item, results in the items' order, few in flight; the first error is raised here.

    `do` must be safe in several threads and in other processes: what it does beside its result must be the same when
    done twice, since Ray gives an item to another worker when one dies. Store entries are.
    """
    return _on_ray(do, items) if on_ray() else in_order(do, items)


def in_order(do: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None) -> Iterator[Result]:
    """`do(item)` for every item from a few threads, results in the items' order, at most 2 per thread in flight."""
    threads = threads or len(os.sched_getaffinity(0))
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(do, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def ray_here() -> Any:
    """The module `ray`, connected: to the cluster at `RAY_ADDRESS`, else to one started here, on loopback alone.

    Raises:
        UsageError: Ray is not installed.
        SelfsightError: it does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    try:
        import ray
    except ImportError:
        raise UsageError(f"{FANOUT}=ray needs Ray: pip install 'selfsight[ray]'") from None
    if not ray.is_initialized():
        _connect(ray)
    return ray


def _connect(ray: Any) -> None:
    quiet: dict[str, Any] = {"logging_level": "error"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    for again in range(STARTS - 1, -1, -1):
        try:
            ray.init(**quiet, include_dashboard=False, _node_ip_address="127.0.0.1")
            return
        except Exception as error:  # nothing narrower, when a node is not up in the 30 s that Ray gives it
            ray.shutdown()
            if not again:
                raise SelfsightError(f"Ray does not start on this machine ({error}); is it very busy?") from error


def _on_ray(do: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Each item as a task; an item whose worker dies is given to another one.

    Workers need the package, the source's files and the home at the same paths: the environment is passed on.
    """
    ray = ray_here()
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(("SELFSIGHT_", "OMP_"))}
    shared = ray.put(do)
    task = ray.remote(
        num_cpus=1, max_retries=RETRIES, retry_exceptions=False, runtime_env={"env_vars": passed_on}
    )(_apply)  # fmt: skip
    most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting: deque[Any] = deque()
    try:
        for item in items:
            waiting.append(task.remote(shared, item))
            if len(waiting) >= most:
                yield _result(ray, waiting.popleft())
        while waiting:
            yield _result(ray, waiting.popleft())
    finally:
        for left in waiting:
            ray.cancel(left)


def _apply(do: Callable[[Item], Result], item: Item) -> Result:
    return do(item)


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
