"""What Redis tells: a new ring in the mirror, and the nodes' own events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import orjson
from redis.exceptions import RedisError

from ringway.store.client import Client
from ringway.store.keys import Keys

from .background import Background

log = logging.getLogger(__name__)

POLL_S = 0.25  # how long a stop may have to wait
RETRY_S = 1.0


class Feed(Background):
    """A thread that listens on two pub/sub channels and reconnects for ever.

    Pub/sub loses what is sent while nobody listens, so after every (re)connection `on_ring` is called once.
    """

    def __init__(
        self, client: Client, keys: Keys, *, on_ring: Callable[[], object], on_event: Callable[[str, Any], object]
    ) -> None:
        super().__init__("redis-feed")
        self._client, self._keys = client, keys
        self._on_ring, self._on_event = on_ring, on_event

    def run(self) -> None:
        said = False
        while not self.stopping.is_set():
            try:
                self._follow()
                said = False
            except (RedisError, OSError) as error:
                if not said:
                    log.warning("no events from Redis until it is back: %s", error)
                said = True
            except Exception:
                log.exception("the feed from Redis failed; going on")
            self.stopping.wait(RETRY_S)

    def _follow(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(self._keys.ring_channel, self._keys.events_channel)
            self._on_ring()
            while not self.stopping.is_set():
                message = channel.get_message(timeout=POLL_S)
                if message is not None:
                    self._take(message["channel"], message["data"])

    def _take(self, channel: bytes, data: bytes) -> None:
        if channel.decode() == self._keys.ring_channel:
            self._on_ring()
            return
        try:
            event = orjson.loads(data)
            name = event["t"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            log.warning("ignored an event that cannot be read (%s): %.200r", error, data)
            return
        if isinstance(name, str) and name.isidentifier():  # a line break in it would break the stream
            self._on_event(name, event)
