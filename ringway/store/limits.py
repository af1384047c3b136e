"""How much of a channel is kept. The nodes say it, for whoever appends: a log has one cap, whoever writes to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ringway.core.errors import Unavailable

from .client import Client, redis_errors
from .keys import Keys

logger = logging.getLogger(__name__)

DAY_S = 86_400
MAX_AGE_S = 2.0


class Limits(NamedTuple):
    """Args: cap: messages kept per channel, at least; ttl_s: seconds after the last one until they go."""

    cap: int = 1000
    ttl_s: int = 7 * DAY_S


class SharedLimits:
    """What the cluster's nodes run with, read again when what is known is older than `max_age_s`.

    Args:
        clock: monotonic seconds.
    """

    def __init__(
        self, client: Client, keys: Keys, *, max_age_s: float = MAX_AGE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._key, self._max_age_s, self._clock = client, keys.limits, max_age_s, clock
        self._known: Limits | None = None
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def put(self, limits: Limits) -> None:
        """Say it, as a node. Raises Unavailable."""
        with redis_errors():
            self._client.set(self._key, f"{limits.cap} {limits.ttl_s}")

    def current(self) -> Limits:
        """The nodes' word; what they would say by default, if none has ever run.

        Raises:
            Unavailable: it could never be read. A guess might cut logs short.
        """
        with self._reading:
            if self._clock() - self._read_at > self._max_age_s:
                self._known = self._read()
                self._read_at = self._clock()
        return self._known or Limits()

    def _read(self) -> Limits | None:
        try:
            with redis_errors():
                text = self._client.get(self._key)
        except Unavailable:
            if self._known is None:
                raise
            return self._known
        return Limits(*map(int, text.split())) if text else self._known
