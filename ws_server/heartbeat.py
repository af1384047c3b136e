"""One timer for all pings, idle limits and close deadlines, instead of a timer per connection.

`TimerWheel` is pure: it takes `now` and says what is due, at a cost of what is due. `Heartbeat` drives it with a single
gevent timer, which runs only while there is something to wait for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from math import ceil
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger("ringway.ws_server.heartbeat")

TICK_S = 0.1
STALL_S = 1.0  # a beat that comes so much late: the process was stopped, or something blocked the loop
CATCH_UP_S = 1.0  # after that nothing fires for so long

T = TypeVar("T")


class TimerWheel(Generic[T]):
    """Deadlines by tick; only ticks that somebody waits for exist. Never early, and at most one tick late.

    An item has one deadline at a time; the token that `add` returns is needed to `remove` it.
    """

    __slots__ = ("_slots", "_tick", "_tick_s")

    def __init__(self, now: float, *, tick_s: float = TICK_S) -> None:
        self._tick_s = tick_s
        self._tick = int(now / tick_s)  # all up to here has been taken out
        self._slots: dict[int, dict[T, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def __bool__(self) -> bool:
        return bool(self._slots)

    def add(self, item: T, due: float) -> int:
        """Make `item` due at `due`, in the seconds of `advance`."""
        token = max(ceil(due / self._tick_s), self._tick + 1)
        slot = self._slots.get(token)
        if slot is None:
            slot = self._slots[token] = {}
        slot[item] = None
        return token

    def remove(self, item: T, token: int) -> None:
        """Forget an entry; one that has already fired is no error."""
        slot = self._slots.get(token)
        if slot is not None:
            slot.pop(item, None)
            if not slot:
                del self._slots[token]

    def advance(self, now: float) -> list[T]:
        """Take out and return all that became due by `now`, in order of their ticks."""
        last = int(now / self._tick_s)
        ticks: Iterable[int] = range(self._tick + 1, last + 1)
        if last - self._tick > len(self._slots):  # after a pause, or with few deadlines
            ticks = sorted(tick for tick in self._slots if tick <= last)
        self._tick = max(self._tick, last)
        due: list[T] = []
        for tick in ticks:
            due += self._slots.pop(tick, ())
        return due


class Timed(Protocol):
    """What `Heartbeat` calls when a deadline came."""

    def on_due(self, now: float) -> None: ...


class Heartbeat:
    """The wheel on a gevent loop. Callbacks run in the hub and must not block.

    After a stall what clients sent meanwhile, their pongs too, is still unread in the sockets, and libev calls timers
    first: so all deadlines wait a moment, or a node that thaws would close sessions that are well.
    """

    __slots__ = ("_beaten_at", "_clock", "_quiet_until", "_running", "_timer", "_wheel")

    def __init__(self, loop: Any, *, clock: Callable[[], float] = time.monotonic, tick_s: float = TICK_S) -> None:
        self._clock = clock
        self._wheel: TimerWheel[Timed] = TimerWheel(clock(), tick_s=tick_s)
        self._timer = loop.timer(tick_s, tick_s)
        self._running = False
        self._beaten_at = self._quiet_until = 0.0

    def __len__(self) -> int:
        return len(self._wheel)

    def schedule(self, item: Timed, delay_s: float) -> int:
        """Call `item.on_due(now)` once after `delay_s`; returns the token for `cancel`."""
        now = self._clock()
        if not self._running:
            self._wheel.advance(now)  # empty: only moves its hand to now
            self._running = True
            self._beaten_at = now
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
        if now - self._beaten_at > STALL_S:
            self._quiet_until = now + CATCH_UP_S
        self._beaten_at = now
        if now < self._quiet_until:
            return
        for item in self._wheel.advance(now):
            try:
                item.on_due(now)
            except Exception:
                log.exception("deadline of %r failed", item)
        if not self._wheel and self._running:
            self._running = False
            self._timer.stop()
