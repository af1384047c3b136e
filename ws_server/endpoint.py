"""What the connections of one port share: limits, counters, the event loop and its heartbeat."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from gevent.event import Event

from .burst import Burst
from .heartbeat import Heartbeat
from .poller import make_poller

if TYPE_CHECKING:
    from .connection import Connection


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, seconds and counts. None switches a limit off."""

    message_bytes: int = 65536
    queue_bytes: int | None = 1 << 20
    connections: int = 50_000
    handshakes: int = 2_000  # sockets that are accepted and not yet a connection, nor with pywsgi
    wsgi_requests: int = 1_000  # plain ones, under way or kept alive
    header_bytes: int = 8192
    handshake_s: float = 10.0
    keep_alive_s: float = 15.0  # for the whole head of the next plain request on a connection
    wsgi_s: float = 60.0  # for the whole body of a plain request, and for each piece of its answer
    ping_s: float | None = 25.0
    pong_s: float = 10.0
    idle_s: float | None = None  # no message for so long; checked once per ping
    close_s: float = 5.0
    deflate: bool = False
    origins: frozenset[str] | None = None  # allowed Origin headers; a request without one is no browser's


@dataclass(slots=True, eq=False)
class Counters:
    """Plain numbers, read at scrape time: a metrics library's locks would cost more than the message they count."""

    open: int = 0
    opened: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    queue_bytes: int = 0
    slow_consumers: int = 0
    handler_errors: int = 0
    handshakes: int = 0  # under way now
    closed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (code, cause)
    refused: Counter[str] = field(default_factory=Counter)  # handshakes, by cause
    accept_errors: Counter[str] = field(default_factory=Counter)  # by name of the errno, or of the exception

    def count_close(self, code: int, cause: str) -> None:
        """One close. Codes that a client made up share a label, so that it cannot flood the metrics."""
        label = str(code) if cause != "client" or code < 3000 else f"{code // 1000}xxx"
        self.closed[label, cause] += 1


class Endpoint:
    """Made once per port, in the greenlet hub that will run its connections."""

    __slots__ = ("_emptied", "_siblings", "burst", "connections", "counters", "heartbeat", "limits", "loop", "poller")

    def __init__(
        self, limits: Limits | None = None, counters: Counters | None = None, burst: Burst | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.counters = counters or Counters()
        self.burst = burst or Burst()
        self.loop: Any = get_hub().loop
        self.heartbeat = Heartbeat(self.loop)
        self.poller = make_poller(self.loop, self.counters)
        self.connections: set[Connection] = set()
        self._emptied = Event()
        self._siblings: dict[Limits, Endpoint] = {}

    def sibling(self, limits: Limits) -> Endpoint:
        """The same endpoint under other limits; made once for each."""
        if limits not in self._siblings:
            twin = copy(self)
            twin.limits = limits
            self._siblings[limits] = twin
        return self._siblings[limits]

    @property
    def full(self) -> bool:
        """At the limit of connections, those of siblings included."""
        return self.counters.open >= self.limits.connections

    def close(self) -> None:
        """Give the timer and the poller back, when no connection is left."""
        self.heartbeat.close()
        self.poller.close()

    def add(self, connection: Connection) -> None:
        if not self.connections:
            self._emptied.clear()
        self.connections.add(connection)
        self.counters.open += 1
        self.counters.opened += 1

    def remove(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.counters.open -= 1
        if not self.connections:
            self._emptied.set()

    def wait_empty(self, timeout_s: float) -> bool:
        """Block the calling greenlet until no connection is left; False when the time was not enough."""
        return not self.connections or self._emptied.wait(timeout_s)
