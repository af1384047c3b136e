"""Whether Redis answers, as this node sees it: one switch that everything which needs Redis asks and tells.

While it is off nobody tries on their own: calls fail at once instead of queueing for a time-out each, and one greenlet
knocks until Redis is back. A slot of a Redis Cluster on its way to another server concerns its own users alone: the
switch stays on, and what failed is tried again soon.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

import gevent
from redis.exceptions import RedisError

from ringway.core.backoff import full_jitter
from ringway.core.errors import Unavailable, Unsettled
from ringway.core.repeats import Repeats, times

log = logging.getLogger(__name__)

SERVICE = "Redis"
KNOCK_BASE_S, KNOCK_CAP_S = 0.1, 1.0  # what Redis lost is appended again in time (store/log.py, GRACE_S)
AGAIN_S = 0.2  # a slot with a few thousand keys has moved by then
# What a broken connection looks like: redis-py's own errors, the store's, and the socket's where nobody wrapped them.
AWAY = (Unavailable, RedisError, OSError)


class RedisLink:
    """Starts on. `lost` turns it off and starts knocking; a knock that is answered turns it on again."""

    def __init__(self, ping: Callable[[], object]) -> None:
        """Args: ping: asks Redis something cheap, raising one of `AWAY` when there is no answer."""
        self.up = True
        self.since = time.monotonic()
        self._ping = ping
        self._on_back: list[Callable[[], object]] = []
        self._on_lost: list[Callable[[], object]] = []
        self._on_again: list[Callable[[], object]] = []
        self._knocking: Any = None
        self._again: Any = None
        self._silence = Repeats()

    def on_back(self, listener: Callable[[], object]) -> None:
        """Have `listener` called, in the knocking greenlet, each time Redis is back."""
        self._on_back.append(listener)

    def on_again(self, listener: Callable[[], object]) -> None:
        """Have `listener` called when what failed may go through now: Redis is back, or a slot may have moved."""
        self._on_again.append(listener)

    def on_lost(self, listener: Callable[[], object]) -> None:
        """Have `listener` called, by whoever finds it out, when Redis is away. It must not block."""
        self._on_lost.append(listener)

    def lost(self, why: BaseException) -> None:
        """A call has failed. Knowing it already is no error."""
        if isinstance(why, Unsettled):
            log.info("%s", why)
            if not self._again:
                self._again = gevent.spawn_later(AGAIN_S, self._try_again)
            return
        if self.up:
            log.error("Redis is away (%s): sessions stay, durable messages are answered `unavailable`", why)
            self.up, self.since = False, time.monotonic()
            for listener in self._on_lost:
                listener()
        if not self._knocking:
            self._knocking = gevent.spawn(self._knock)

    def unavailable(self) -> Unavailable:
        """The error for whoever needs Redis now."""
        return Unavailable(SERVICE, f"away for {time.monotonic() - self.since:.0f} s")

    def stop(self) -> None:
        for greenlet in (self._knocking, self._again):
            if greenlet:
                greenlet.kill()

    def _try_again(self) -> None:
        self._again = None  # what fails once more has another one
        for listener in self._on_again:
            listener()

    def _knock(self) -> None:
        attempt = 0
        while not self._answers():
            attempt += 1
            gevent.sleep(full_jitter(attempt, random.random, base_s=KNOCK_BASE_S, cap_s=KNOCK_CAP_S))
        log.warning("Redis is back after %.1f s", time.monotonic() - self.since)
        self.up, self.since = True, time.monotonic()
        self._silence.over()
        for listener in (*self._on_back, *self._on_again):
            listener()

    def _answers(self) -> bool:
        try:
            self._ping()
        except AWAY as error:
            count = self._silence.again(time.monotonic())
            log.log(logging.INFO if count else logging.DEBUG, "Redis does not answer yet%s: %s", times(count), error)
            return False
        return True
