"""One WebSocket of the asyncio client: opening it, and writing on it at the node's pace."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from ringway.core.frames import DEDUP_S, SUBPROTOCOL

from . import tls
from .base import CLOSE_TIMEOUT_S, check
from .liveness import DEFAULT_PING_S, Liveness
from .pace import Pace
from .resolver import proxy


class Connection:
    """One WebSocket and what waits to be written on it."""

    __slots__ = ("_wrote", "dedup_s", "inbox", "liveness", "outgoing", "pace", "stamp", "task", "writer", "ws")

    def __init__(self, stamp: int, wrote: Callable[[str], object]) -> None:
        """Args: wrote: told of each frame before it goes out."""
        self.stamp, self._wrote = stamp, wrote
        self.ws: ClientConnection | None = None
        self.task: asyncio.Task[None] | None = None
        self.writer: asyncio.Task[None] | None = None
        self.outgoing: deque[str] = deque()
        self.inbox: dict[str, Any] = {}
        self.liveness = Liveness(0.0, 0.0)
        self.pace = Pace(None)
        self.dedup_s: float = DEDUP_S

    async def open(
        self, url: str, within_s: float, context: ssl.SSLContext | None
    ) -> tuple[ClientConnection, dict[str, Any]]:
        """Until the welcome, which is heeded and returned.

        Raises OSError, TimeoutError, WebSocketException; ValueError for nonsense.
        """
        async with asyncio.timeout(within_s):
            self.ws = ws = await connect(
                url, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, ping_interval=None, open_timeout=None,
                close_timeout=CLOSE_TIMEOUT_S, proxy=proxy(url.partition("?")[0]),
                ssl=(context or tls.default()) if url.startswith("wss:") else None,
            )
            frame: dict[str, Any] = {}
            while frame.get("t") != "welcome":
                frame = orjson.loads(await ws.recv())
        check(frame, node=str, gen=int, epoch=int)
        self.inbox = frame.get("inbox") or {}
        now = asyncio.get_running_loop().time()
        self.liveness = Liveness(float(frame.get("ping_s") or DEFAULT_PING_S), now)
        self.pace = Pace(frame.get("rate"))
        self.dedup_s = float(frame.get("dedup_s") or DEDUP_S)
        return ws, frame

    async def write_all(self) -> None:
        """Write what is queued, as fast as the node allows."""
        now = asyncio.get_running_loop().time
        try:
            while self.ws is not None and self.outgoing:
                if (wait_s := self.pace.take(now())) > 0:
                    await asyncio.sleep(wait_s)
                elif self.outgoing:
                    self._wrote(text := self.outgoing.popleft())
                    await self.ws.send(text)
        except ConnectionClosed:  # the reader sees it too and reports it; what needs an ok is in the outbox
            self.outgoing.clear()
