"""Pub/sub: what other nodes and back ends have for this node's users and groups.

One connection of its own and one greenlet. Notices are only hints: each durable one has its place in a log, so after
every reconnect `on_connected` compares positions with the logs, and nothing depends on pub/sub being reliable.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

import gevent
from redis import RedisCluster
from redis.exceptions import TimeoutError as RedisTimeoutError

from ringway.core.backoff import full_jitter
from ringway.core.errors import Unavailable
from ringway.core.repeats import Repeats, times
from ringway.store.client import Client, redis_errors

from .burst import Burst
from .lanes import Lane
from .redis_link import RedisLink

log = logging.getLogger(__name__)

QUIET_S = 5.0  # after so long without a word, ask whether the connection is alive
SILENT_S = 10.0  # after so long without an answer, it is not
CHUNK = 500  # channels in one SUBSCRIBE
SLICE = 256  # notices dispatched before others have a turn of the loop

Ready = Callable[[], object]


class Subscriber:
    """Keeps subscriptions over reconnects. `ready` callbacks come once the server has confirmed a subscription."""

    def __init__(
        self, client: Client, link: RedisLink, burst: Burst, *, on_notice: Callable[[bytes, bytes], object],
        on_connected: Ready,
    ) -> None:
        """
        Args:
            burst: that of the connections, for notices that come together.
            on_connected: called, in a greenlet of its own, each time all subscriptions stand again.
        """
        self._client, self._link, self._burst = client, link, burst
        self._on_notice, self._on_connected = on_notice, on_connected
        self._wanted: dict[str, list[Ready]] = {}
        self._confirmed: set[str] = set()
        self._writes: Lane[tuple[str, str]] = Lane("changing subscriptions", self._write)
        self._conn: Any = None
        self._greenlet: Any = None
        self._announced = False
        self._losses = Repeats()
        self.notices = 0
        self.reconnects = -1

    @property
    def connected(self) -> bool:
        """Whether all that is wanted is subscribed."""
        return self._announced

    def start(self) -> None:
        self._writes.start()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._writes.stop()
        if self._greenlet is not None:
            self._greenlet.kill()

    def subscribe(self, channel: str, ready: Ready) -> None:
        """Want a channel; `ready` is called at once if it stands already."""
        if channel in self._confirmed:
            ready()
            return
        new = channel not in self._wanted
        self._wanted.setdefault(channel, []).append(ready)
        if new and self._conn is not None:
            self._writes.put(("SUBSCRIBE", channel))

    def unsubscribe(self, channel: str) -> None:
        """Want a channel no more."""
        if self._wanted.pop(channel, None) is None:
            return
        self._confirmed.discard(channel)
        if self._conn is not None:
            self._writes.put(("UNSUBSCRIBE", channel))
            self._announce()  # it may have been the last one waited for

    def _run(self) -> None:
        attempt = 0
        while True:
            began = time.monotonic()
            try:
                with redis_errors():
                    self._session()
            except Unavailable as error:
                self._say(error)
                self._link.lost(error)
            except Exception:
                log.exception("the subscriber failed; connecting again")
            finally:
                self._disconnect()
            attempt = 1 if time.monotonic() - began > SILENT_S else attempt + 1
            gevent.sleep(full_jitter(attempt, random.random, base_s=0.05, cap_s=2.0))

    def _say(self, error: Unavailable) -> None:
        count = self._losses.again(time.monotonic())
        level = logging.WARNING if self._announced else logging.INFO if count else logging.DEBUG
        log.log(level, "subscriptions lost%s: %s", times(count), error)

    def _session(self) -> None:
        """One connection, from connecting to its end, which is always an error."""
        conn = self._connect()
        self.reconnects += 1
        self._confirmed.clear()
        self._conn = conn
        channels = list(self._wanted)
        for start in range(0, len(channels), CHUNK):
            conn.send_command("SUBSCRIBE", *channels[start : start + CHUNK])
        heard = time.monotonic()
        taken = 0
        while True:
            try:
                message = conn.read_response(disconnect_on_error=False)
            except RedisTimeoutError:
                if time.monotonic() - heard > SILENT_S:
                    raise Unavailable("Redis", f"no word on the subscription for {SILENT_S:g} s") from None
                conn.send_command("PING", check_health=False)
                continue
            self._take(message)
            heard = time.monotonic()
            taken += 1
            if taken % SLICE == 0:
                gevent.sleep(0)

    def _connect(self) -> Any:
        pool: Any
        if isinstance(self._client, RedisCluster):
            node: Any = self._client.get_random_node()  # type: ignore[no-untyped-call]
            pool = self._client.get_redis_connection(node).connection_pool
        else:
            pool = self._client.connection_pool
        # Its own: the pool must not wait for it. A read that times out says that it was quiet for so long.
        conn = pool.connection_class(**{**pool.connection_kwargs, "socket_timeout": QUIET_S})
        conn.connect()
        return conn

    def _disconnect(self) -> None:
        conn, self._conn, self._announced = self._conn, None, False
        self._confirmed.clear()
        if conn is not None:
            conn.disconnect()

    def _take(self, message: Any) -> None:
        kind = message[0] if isinstance(message, list) else b""
        if kind == b"message":
            self.notices += 1
            self._dispatch(message[1], message[2])
        elif kind == b"subscribe":
            self._subscribed(message[1].decode())

    def _dispatch(self, channel: bytes, data: bytes) -> None:
        self._burst.begin()
        try:
            self._on_notice(channel, data)
        except Exception:
            log.exception("a notice of %d bytes could not be handled: %r", len(data), data[:80])

    def _subscribed(self, channel: str) -> None:
        waiting = self._wanted.get(channel)
        if waiting is None:
            return  # left meanwhile
        self._confirmed.add(channel)
        self._wanted[channel] = []
        for ready in waiting:
            ready()
        self._announce()

    def _announce(self) -> None:
        if not self._announced and len(self._confirmed) == len(self._wanted):
            self._announced = True
            self._losses.over()
            gevent.spawn(self._on_connected)

    def _write(self, changes: list[tuple[str, str]]) -> None:
        conn = self._conn
        if conn is None:
            return  # the next connection begins with all that is wanted then
        try:
            with redis_errors():
                for verb, channel in changes:
                    if (verb == "SUBSCRIBE") == (channel in self._wanted):
                        conn.send_command(verb, channel)
        except Unavailable as error:
            log.info("the subscription's connection broke while writing: %s", error)
