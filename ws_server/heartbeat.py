"""One timer for all pings, idle limits and close deadlines, instead of a timer per connection.

`TimerWheel` is pure: it takes `now` and says what is due, at a cost of what is due. `Heartbeat` drives it with a single
gevent timer, which runs only while there is something to wait for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from math import ceil
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger("ringway.ws_server.heartbeat")

TICK_S = 0.1
SLOTS = 1024  # one turn is 102 s: longer than a ping interval, so an entry is looked at once

T = TypeVar("T")


class TimerWheel(Generic[T]):
    """A hashed wheel. Entries never fire early, and at most one tick late.

    An item has one deadline at a time; the token that `add` returns is needed to `remove` it.
    """

    __slots__ = ("_size", "_slots", "_tick", "_tick_s")

    def __init__(self, now: float, *, tick_s: float = TICK_S, slots: int = SLOTS) -> None:
        self._tick_s = tick_s
        self._tick = int(now / tick_s)
        self._slots: list[dict[T, int]] = [{} for _ in range(slots)]
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, item: T, due: float) -> int:
        """Make `item` due at `due`, in the seconds of `advance`."""
        token = max(ceil(due / self._tick_s), self._tick + 1)
        self._slots[token % len(self._slots)][item] = token
        self._size += 1
        return token

    def remove(self, item: T, token: int) -> None:
        """Forget an entry; one that has already fired is no error."""
        if self._slots[token % len(self._slots)].pop(item, None) is not None:
            self._size -= 1

    def advance(self, now: float) -> list[T]:
        """Take out and return all that became due by `now`, in order of their ticks."""
        last = int(now / self._tick_s)
        first = max(self._tick + 1, last - len(self._slots) + 1)  # after a long pause each slot is looked at once
        self._tick = max(self._tick, last)
        due: list[T] = []
        for tick in range(first, last + 1):
            slot = self._slots[tick % len(self._slots)]
            if slot:
                ripe = [item for item, token in slot.items() if token <= last]
                for item in ripe:
                    del slot[item]
                due += ripe
        self._size -= len(due)
        return due


class Timed(Protocol):
    """What `Heartbeat` calls when a deadline came."""

    def on_due(self, now: float) -> None: ...


class Heartbeat:
    """The wheel on a gevent loop. Callbacks run in the hub and must not block."""

    __slots__ = ("_clock", "_running", "_timer", "_wheel")

    def __init__(self, loop: Any, *, clock: Callable[[], float] = time.monotonic, tick_s: float = TICK_S) -> None:
        self._clock = clock
        self._wheel: TimerWheel[Timed] = TimerWheel(clock(), tick_s=tick_s)
        self._timer = loop.timer(tick_s, tick_s)
        self._running = False

    def __len__(self) -> int:
        return len(self._wheel)

    def schedule(self, item: Timed, delay_s: float) -> int:
        """Call `item.on_due(now)` once after `delay_s`; returns the token for `cancel`."""
        now = self._clock()
        if not self._running:
            self._wheel.advance(now)  # empty: only moves its hand to now
            self._running = True
            self._timer.start(self._beat)
        return self._wheel.add(item, now + delay_s)

    def cancel(self, item: Timed, token: int) -> None:
        self._wheel.remove(item, token)

    def close(self) -> None:
        """Stop for good. Nothing fires any more."""
        self._timer.stop()
        self._timer.close()

    def _beat(self) -> None:
        now = self._clock()
        for item in self._wheel.advance(now):
            try:
                item.on_due(now)
            except Exception:
                log.exception("deadline of %r failed", item)
        if not self._wheel and self._running:
            self._running = False
            self._timer.stop()
