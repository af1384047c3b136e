"""Whether Redis answers, as this node sees it: one switch that everything which needs Redis asks and tells.

While it is off nobody tries on their own: calls fail at once instead of queueing for a time-out each, and one greenlet
knocks until Redis is back.
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
from ringway.core.errors import Unavailable

log = logging.getLogger(__name__)

SERVICE = "Redis"
KNOCK_BASE_S, KNOCK_CAP_S = 0.1, 1.0  # what Redis lost is appended again in time (store/log.py, GRACE_S)
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
        self._knocking: Any = None

    def on_back(self, listener: Callable[[], object]) -> None:
        """Have `listener` called, in the knocking greenlet, each time Redis is back."""
        self._on_back.append(listener)

    def on_lost(self, listener: Callable[[], object]) -> None:
        """Have `listener` called, by whoever finds it out, when Redis is away. It must not block."""
        self._on_lost.append(listener)

    def lost(self, why: BaseException) -> None:
        """A call has failed. Knowing it already is no error."""
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
        if self._knocking:
            self._knocking.kill()

    def _knock(self) -> None:
        attempt = 0
        while not self._answers():
            attempt += 1
            gevent.sleep(full_jitter(attempt, random.random, base_s=KNOCK_BASE_S, cap_s=KNOCK_CAP_S))
        log.warning("Redis is back after %.1f s", time.monotonic() - self.since)
        self.up, self.since = True, time.monotonic()
        for listener in self._on_back:
            listener()

    def _answers(self) -> bool:
        try:
            self._ping()
        except AWAY as error:
            log.info("Redis does not answer yet: %s", error)
            return False
        return True
