"""How a route's message goes to a client that reads slowly, so that what is queued for it has a bound.

A greenlet waits; another thread than the event loop's hands its messages over, and waits too; what can do neither, a
callback of the loop, closes the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent.event import Event
from gevent.monkey import get_original
from simple_websocket import ConnectionClosed

from ringway.core.close_codes import CloseCode

if TYPE_CHECKING:
    from .connection import Connection

HIGH_WATER = 1 << 20  # bytes queued, each way, at which the faster side waits
MESSAGE_BYTES = 64  # what a message costs besides its own bytes, so that empty ones are not free
_new_lock: Callable[[], Any] = get_original("_thread", "allocate_lock")  # a thread here may have no greenlets


def send_and_wait(connection: Connection, payload: bytes, *, binary: bool) -> None:
    """From a greenlet of the loop's thread: return when the client is not behind, or gone."""
    connection.send(payload, binary=binary)
    if connection.buffered > HIGH_WATER:
        drained = Event()
        connection.when_drained(drained.set)
        drained.wait()


def send_in_loop(connection: Connection, payload: bytes, *, binary: bool) -> None:
    """From a callback of the loop. Raises ConnectionClosed (4101) when the client was behind already."""
    if connection.buffered > HIGH_WATER:
        connection.close(CloseCode.SLOW_CONSUMER, cause="slow consumer")
        raise ConnectionClosed(CloseCode.SLOW_CONSUMER)
    connection.send(payload, binary=binary)


class Handover:
    """From other threads, to one client. Counts what is handed over and still queued; over the limit a thread waits."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._lock = _new_lock()
        self._queued = 0

    def send(self, connection: Connection, payload: bytes, *, binary: bool) -> None:
        """Have the loop's thread send it. Returns at once, or blocks this thread until the client has read enough."""
        size = len(payload) + MESSAGE_BYTES
        taken = _new_lock()
        taken.acquire()

        def done() -> None:
            self._count(-size)
            taken.release()

        def put() -> None:
            connection.send(payload, binary=binary)
            if connection.buffered > HIGH_WATER:
                connection.when_drained(done)
            else:
                done()

        must_wait = self._count(size) > HIGH_WATER
        self._loop.run_callback_threadsafe(put)
        if must_wait:
            taken.acquire()

    def _count(self, size: int) -> int:
        with self._lock:
            self._queued += size
            return self._queued
