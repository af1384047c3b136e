"""A queue whose greenlet takes all that has gathered: the busier the node, the larger its pipelines."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import gevent
from gevent.event import Event

log = logging.getLogger(__name__)

T = TypeVar("T")

QUEUE_LIMIT = 100_000


class Lane(Generic[T]):
    """Hands its items, in order, to `work` in batches; one at a time unless told otherwise, so order holds across them.

    What `work` raises is logged: the items of that batch are lost with it, so it must answer for them itself.
    """

    def __init__(
        self, name: str, work: Callable[[list[T]], None], *, batch: int = 512, limit: float = QUEUE_LIMIT,
        workers: int = 1, gather_s: float = 0.0,
    ) -> None:
        """
        Args:
            batch: items at once at most.
            limit: items that wait at most, `inf` where nobody may be turned away.
            workers: batches at a time: with two, one is with the server while the other is dealt with here. Order then
                holds within each.
            gather_s: seconds from the first item to its batch, for items that are in no hurry until `hurry` says so.
        """
        self._name, self._work, self._batch, self._limit = name, work, batch, limit
        self._items: deque[T] = deque()
        self._ready, self._hurry, self._idle = Event(), Event(), Event()
        self._idle.set()
        self._workers, self._gather_s, self._working = workers, gather_s, 0
        self._greenlets: list[Any] = []

    def __len__(self) -> int:
        return len(self._items)

    def start(self) -> None:
        self._greenlets = [gevent.spawn(self._run) for _ in range(self._workers)]

    def finish(self, timeout_s: float) -> None:
        """Wait until nothing is waiting or being worked on, so long at most."""
        self._idle.wait(timeout_s)

    def stop(self) -> None:
        gevent.killall(self._greenlets)

    def put(self, item: T) -> bool:
        """Queue an item; False if too many wait already. Never blocks: callable from the event loop's callbacks."""
        if len(self._items) >= self._limit:
            return False
        self._items.append(item)
        if len(self._items) == 1:
            self._idle.clear()
            self._ready.set()
        return True

    def hurry(self) -> None:
        """Gather no longer: what waits goes now."""
        if self._items:
            self._hurry.set()

    def _run(self) -> None:
        while True:
            self._ready.wait()
            self._ready.clear()
            while self._items:
                if self._gather_s:
                    self._hurry.wait(self._gather_s)
                    self._hurry.clear()
                self._turn([self._items.popleft() for _ in range(min(self._batch, len(self._items)))])
            if not self._working:
                self._idle.set()

    def _turn(self, items: list[T]) -> None:
        self._working += 1
        try:
            self._work(items)
        except Exception:
            log.exception("%s failed with %d items; going on", self._name, len(items))
        finally:
            self._working -= 1
