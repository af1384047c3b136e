"""One WebSocket of the blocking client: opening it, and writing on it at the node's pace."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from ringway.core.frames import DEDUP_S, SUBPROTOCOL
from ringway.trust import system_trust

from . import tls
from .base import CLOSE_TIMEOUT_S, log, terms
from .liveness import Liveness
from .pace import Pace
from .resolver import proxy


class Connection:
    """One WebSocket and what waits to be written on it."""

    def __init__(
        self, stamp: int, url: str, within_s: float, guard: AbstractContextManager[Any], wrote: Callable[[str], object]
    ) -> None:
        """Args: guard: held by whoever changes what is queued; wrote: told of each frame before it goes out."""
        self.stamp, self.url, self.within_s = stamp, url, within_s
        self.ws: ClientConnection | None = None
        self.outgoing: deque[str] = deque()
        self.inbox: Mapping[str, Any] = {}
        self.liveness = Liveness(0.0, 0.0)
        self.pace = Pace(None)
        self.dropped = False
        self.decided = threading.Event()  # the machine has adopted or dropped it
        self.dedup_s: float = DEDUP_S
        self._guard, self._wrote, self._writing = guard, wrote, threading.Lock()

    def open(self, context: ssl.SSLContext | None) -> ClientConnection:
        """Raises OSError, TimeoutError, WebSocketException."""
        self.ws = connect(
            self.url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, ping_interval=None,
            open_timeout=self.within_s, close_timeout=CLOSE_TIMEOUT_S, proxy=proxy(self.url.partition("?")[0]),
            ssl=tls.threaded(context or system_trust()) if self.url.startswith("wss:") else None,
        )
        return self.ws

    def welcome(self, ws: ClientConnection) -> dict[str, Any]:
        """Read until the welcome, and heed it. Raises TimeoutError, ConnectionClosed; ValueError for nonsense."""
        until = time.monotonic() + self.within_s
        frame: dict[str, Any] = {}
        while frame.get("t") != "welcome":
            frame = orjson.loads(ws.recv(timeout=max(0.0, until - time.monotonic())))
        self.inbox, self.liveness, self.pace, self.dedup_s = terms(frame, time.monotonic())
        return frame

    def flush(self) -> float:
        """Write what is queued. Whoever holds the lock writes for all, so nobody waits for another's slow write.

        Returns seconds after which to come again for the rest; 0.0 when there is none.
        """
        while self.outgoing and self.ws is not None and self._writing.acquire(blocking=False):
            try:
                while self.outgoing:
                    if (wait_s := self.pace.take(time.monotonic())) > 0:
                        return wait_s
                    if (text := self._next()) is not None:
                        self.ws.send(text)
            except (ConnectionClosed, OSError):  # the reader sees it too; what needs an ok is in the outbox
                self.outgoing.clear()
            finally:
                self._writing.release()
        return 0.0

    def _next(self) -> str | None:
        with self._guard:
            if not self.outgoing:
                return None
            self._wrote(self.outgoing[0])
            return self.outgoing.popleft()

    def abort(self) -> None:
        """End it without a word, for a peer that is silent; wakes a reader and a writer that hang."""
        if self.ws is not None:
            try:
                self.ws.socket.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                log.debug("already gone: %s", error)
