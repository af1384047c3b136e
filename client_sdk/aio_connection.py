"""One WebSocket of the asyncio client, on asyncio's transport itself: no task, no queue between a frame and its reader.

RFC 6455 is done by websockets' protocol without I/O. Its own connection for asyncio wakes a task for each frame, which
is half of what a frame costs here; thousands of clients in a process notice.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from ringway.core.close_codes import CloseCode
from ringway.core.frames import DEDUP_S, SUBPROTOCOL
from ringway.trust import system_trust

from .base import CLOSE_TIMEOUT_S, NONSENSE, terms
from .events import BROKEN
from .liveness import Liveness
from .pace import Pace
from .resolver import proxy

SUBPROTOCOLS = [Subprotocol(SUBPROTOCOL)]
WRITE_AT_ONCE = 65536  # bytes of frames that are handed to the transport together


@lru_cache(1024)
def _place(node: str) -> tuple[str, int, bool]:
    """Host, port and whether by TLS. Args: node: its URL without the query, which no two connections have in common."""
    parts = urlsplit(node)
    if not parts.hostname:
        raise ValueError("the route's URL names no host")
    secure = parts.scheme == "wss"
    return parts.hostname, parts.port or (443 if secure else 80), secure


class Connection(asyncio.Protocol):
    """One WebSocket, what was read from it and what waits to be written on it.

    Attributes:
        opened: the node has said welcome.
        unread: frames that came after the welcome.
        end: code and reason, once there will be no frame more.
        transport: None until it is connected.
        gone: done when the socket is closed.
    """

    __slots__ = (
        "_answered", "_attend", "_closing", "_network_full", "_parts", "_protocol", "_turn", "_welcomed", "_written",
        "_wrote", "dedup_s", "end", "gone", "inbox", "liveness", "opened", "outgoing", "pace", "stamp", "task",
        "transport", "unread",
    )

    def __init__(
        self, stamp: int, *, welcomed: Callable[[Connection, dict[str, Any]], object],
        attend: Callable[[Connection], object], wrote: Callable[[str], object],
    ) -> None:
        """
        Args:
            welcomed: called with the welcome, once it is heeded.
            attend: called after that when there is something in `unread`, or it ended.
            wrote: told of each frame before it goes out.
        """
        self.stamp, self._welcomed, self._attend, self._wrote = stamp, welcomed, attend, wrote
        self.opened = False
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.outgoing: deque[str] = deque()
        self.unread: deque[str] = deque()
        self.end: tuple[int, str] | None = None
        self.inbox: Mapping[str, Any] = {}
        self.liveness = Liveness(0.0, 0.0)
        self.pace = Pace(None)
        self.dedup_s: float = DEDUP_S
        self._protocol: ClientProtocol
        self._parts = bytearray()  # of a message in several frames
        self._network_full = False
        self._turn: asyncio.TimerHandle | None = None  # when the node allows the next message
        self._closing: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        self._answered: asyncio.Future[None] = loop.create_future()  # with a welcome, or with anything else
        self.gone: asyncio.Future[None] = loop.create_future()
        self._written: asyncio.Future[None] | None = None

    async def open(self, url: str, context: ssl.SSLContext | None) -> None:
        """Until the welcome, or until it ended without one: see `end`.

        Raises OSError, WebSocketException; one of NONSENSE for nonsense.
        """
        node = url.partition("?")[0]
        host, port, secure = _place(node)
        trust = (context or system_trust()) if secure else None
        if proxy(node):
            await connect(url, subprotocols=SUBPROTOCOLS, compression=None, open_timeout=None, ssl=trust,
                          create_connection=cast(type[ClientConnection], self._speaking))
        else:
            await asyncio.get_running_loop().create_connection(
                lambda: self._speaking(ClientProtocol(parse_uri(url), subprotocols=SUBPROTOCOLS)),
                host, port, ssl=trust,
            )
        await self._answered

    # For `websockets.connect`, which knows the way through proxies, in the place of its own connection.

    def _speaking(self, protocol: ClientProtocol, **_: Any) -> Connection:
        self._protocol = protocol
        return self

    async def handshake(self, *_: Any) -> None:
        """Wait for what `open` waits for."""
        await asyncio.wait([self._answered])

    def start_keepalive(self) -> None:
        """Liveness does it."""

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._send()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._take()
        if self.end is None:
            self.liveness.heard(asyncio.get_running_loop().time())
        if self.opened:
            self._attend(self)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        self._take()
        self._ended(BROKEN, str(exc) if exc is not None else "no close frame came")
        for timer in (self._turn, self._closing):
            if timer is not None:
                timer.cancel()
        if not self.gone.done():
            self.gone.set_result(None)
        if self.opened:
            self._attend(self)

    def pause_writing(self) -> None:
        self._network_full = True

    def resume_writing(self) -> None:
        self._network_full = False
        self.flush()

    # Reading.

    def hold(self) -> None:
        """Read no more for now."""
        self.liveness.pause()
        if self.transport is not None:
            self.transport.pause_reading()

    def go_on(self) -> None:
        """Read on."""
        self.liveness.resume(asyncio.get_running_loop().time())
        if self.transport is not None:
            self.transport.resume_reading()

    def _take(self) -> None:
        """What the protocol made of the bytes that came, and its answers."""
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and self.end is None:
                self._frame(event)
        self._send()
        if (error := self._protocol.handshake_exc) is not None:
            self._fail(error)
        elif (error := self._protocol.parser_exc) is not None and not isinstance(error, EOFError):
            self._ended(BROKEN, f"{type(error).__name__}: {error}")
        if self._closing is None and self._protocol.close_expected():
            self._close_soon()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            close = Close.parse(frame.data)
            self._ended(close.code, close.reason)
        elif frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        elif frame.fin and not self._parts:
            self._message(frame.data)
        else:
            self._parts += frame.data
            if frame.fin:
                self._message(self._parts)
                self._parts = bytearray()

    def _message(self, data: bytes | bytearray | memoryview) -> None:
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError:
            self._protocol.fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            self._ended(BROKEN, "the node sent text that is not UTF-8")
            return
        if self.opened:
            self.unread.append(text)
        elif not self._answered.done():
            self._first(text)

    def _first(self, text: str) -> None:
        try:
            frame = orjson.loads(text)
            if frame.get("t") != "welcome":
                return
            self.inbox, self.liveness, self.pace, self.dedup_s = terms(frame, asyncio.get_running_loop().time())
        except NONSENSE as error:
            self._fail(error)
            return
        self.opened = True
        self._answered.set_result(None)
        self._welcomed(self, frame)

    def _fail(self, error: Exception) -> None:
        """There will be no welcome."""
        if not self._answered.done():
            self._answered.set_exception(error)

    def _ended(self, code: int, reason: str) -> None:
        if self.end is not None:
            return
        self.end = code, reason
        self.outgoing.clear()  # what needs an ok is in the outbox
        self._all_written()
        if not self._answered.done():
            self._answered.set_result(None)

    # Writing.

    def flush(self) -> None:
        """Write what is queued, as fast as the node allows and the network takes it."""
        protocol = self._protocol
        if self.transport is None or self._turn is not None or protocol.state is not State.OPEN:
            return
        now, size = asyncio.get_running_loop().time(), 0
        while self.outgoing and not self._network_full:
            if (wait_s := self.pace.take(now)) > 0:
                self._turn = asyncio.get_running_loop().call_later(wait_s, self._my_turn)
                break
            self._wrote(text := self.outgoing.popleft())
            protocol.send_text(data := text.encode())
            size += len(data)
            if size > WRITE_AT_ONCE:
                self._send()
                size = 0
        self._send()
        if not self.outgoing:
            self._all_written()

    def _my_turn(self) -> None:
        self._turn = None
        self.flush()

    def _send(self) -> None:
        data = self._protocol.data_to_send()
        if data and self.transport is not None:
            self.transport.write(b"".join(data))  # the end of the stream, b"", is for the node to make

    def _all_written(self) -> None:
        if self._written is not None and not self._written.done():
            self._written.set_result(None)

    async def written(self, timeout_s: float) -> None:
        """Until nothing waits to be written, or nothing more can be; at most so long."""
        if self.outgoing:
            self._written = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._written], timeout=timeout_s)

    # Closing.

    def close(self) -> None:
        """Say goodbye; whatever still comes until the node's answer is read."""
        if self.transport is None:
            return
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL)
            self._send()
        self._close_soon()

    def _close_soon(self) -> None:
        if self._closing is None and self.transport is not None:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    def abort(self) -> None:
        """End it without a word, for a peer that is silent."""
        if self.transport is not None:
            self.transport.abort()
        elif not self.gone.done():
            self.gone.set_result(None)
