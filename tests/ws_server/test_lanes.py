from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from ringway.ws_server.lanes import Lane


@pytest.fixture
def lane() -> Iterator[Callable[..., Lane[int]]]:
    made: list[Lane[int]] = []

    def make(work: Callable[[list[int]], None], **limits: Any) -> Lane[int]:
        made.append(Lane("testing", work, **limits))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def settle() -> None:
    for _ in range(20):
        gevent.sleep(0)


def test_items_in_no_hurry_gather_first(lane: Callable[..., Lane[int]]) -> None:
    batches: list[list[int]] = []
    one = lane(batches.append, gather_s=1.0)
    one.put(1)
    settle()
    one.put(2)
    settle()
    assert batches == []
    with gevent.Timeout(5):
        while not batches:
            gevent.sleep(0.01)
    assert batches == [[1, 2]]


def test_what_gathers_while_a_batch_is_out_is_the_next_batch(lane: Callable[..., Lane[int]]) -> None:
    batches: list[list[int]] = []
    gate = gevent.event.Event()

    def work(items: list[int]) -> None:
        batches.append(items)
        gate.wait()

    one = lane(work)
    one.put(1)
    settle()
    for n in (2, 3, 4):
        one.put(n)
    gate.set()
    settle()
    assert batches == [[1], [2, 3, 4]]


def test_with_two_workers_the_next_batch_goes_out_before_the_first_is_back(lane: Callable[..., Lane[int]]) -> None:
    batches: list[list[int]] = []
    gate = gevent.event.Event()

    def work(items: list[int]) -> None:
        batches.append(items)
        gate.wait()

    one = lane(work, workers=2)
    for items in ([1], [2, 3], [4, 5], [6]):
        for n in items:
            one.put(n)
        settle()
    assert batches == [[1], [2, 3]]
    gate.set()
    settle()
    assert batches == [[1], [2, 3], [4, 5, 6]]


def test_a_batch_has_a_limit_and_so_has_the_queue(lane: Callable[..., Lane[int]]) -> None:
    batches: list[list[int]] = []
    one = lane(batches.append, batch=2, limit=5)
    assert [one.put(n) for n in range(7)] == [True] * 5 + [False] * 2
    settle()
    assert batches == [[0, 1], [2, 3], [4]]


def test_an_error_costs_its_batch_and_no_more(lane: Callable[..., Lane[int]]) -> None:
    done: list[int] = []

    def work(items: list[int]) -> None:
        if 1 in items:
            raise ValueError("one")
        done.extend(items)

    one = lane(work, batch=1)
    for n in (1, 2):
        one.put(n)
    settle()
    assert done == [2]
