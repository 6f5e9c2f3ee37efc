"""An iterator that works ahead in its own thread."""

import threading
import time

import pytest

from domains.driving.ahead import ahead


def test_ahead__same_items_in_order_and_never_more_than_asked_for():
    made, taken = [], []

    def numbers():
        for number in range(50):
            made.append(number)
            yield number

    for number in ahead(numbers(), 3):
        taken.append(number)
        assert len(made) - len(taken) <= 3 + 2  # in the queue, in hand, and being made
    assert taken == list(range(50))


def test_ahead__works_while_the_taker_works():
    def slow():
        for number in range(5):
            time.sleep(0.04)
            yield number

    started = time.perf_counter()
    for _ in ahead(slow(), 2):
        time.sleep(0.04)
    assert time.perf_counter() - started < 0.35  # one after the other it takes 0.4


def test_ahead__what_it_raises_is_raised_after_the_items_before_it():
    def broken():
        yield 1
        raise ValueError("the second")

    taken = []
    with pytest.raises(ValueError, match="the second"):
        for number in ahead(broken(), 2):
            taken.append(number)
    assert taken == [1]


def test_ahead__a_taker_that_stops_leaves_no_thread_and_closes_the_iterator():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    items = ahead(endless(), 2)
    next(items)
    items.close()
    assert closed.is_set() and threading.active_count() == before
