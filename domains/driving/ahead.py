"""An iterator that works ahead in a thread of its own, a bounded number of items before whoever takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
WAIT_SECONDS = 0.2
"""Between two looks at whether the other side is gone."""


def ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The same items in the same order, up to `count` of them made before they are asked for.

    What the iterator raises is raised here, after the items before it. When nobody takes items any more (the generator
    is closed), the thread ends and closes its iterator.
    """
    queue: Queue[tuple[Item] | BaseException | None] = Queue(maxsize=count)
    gone = Event()

    def put(what: tuple[Item] | BaseException | None) -> bool:
        while not gone.is_set():
            try:
                queue.put(what, timeout=WAIT_SECONDS)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        iterator = iter(items)
        end: BaseException | None = None
        try:
            for item in iterator:
                if not put((item,)):
                    break
        except BaseException as error:  # handed over and raised by the taker, whatever it is
            end = error
        if gone.is_set() and hasattr(iterator, "close"):
            iterator.close()
        put(end)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            got = queue.get()
            if got is None:
                return
            if isinstance(got, BaseException):
                raise got
            yield got[0]
    finally:
        gone.set()
        thread.join()
