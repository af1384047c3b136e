"""One WebSocket connection on gevent's own event loop: an `io` watcher, a non-blocking socket, and no greenlet.

Reads: one `recv` per wake-up, all complete frames of it, one `send` for all answers. Writes: straight to the socket
while nothing waits; what the kernel does not take goes to a bounded queue that a write watcher empties. Everything runs
in one thread; no method blocks or switches, so handlers and greenlets may call any of them at any time.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from random import random
from socket import SHUT_WR
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ringway.core.close_codes import CloseCode

from .endpoint import Endpoint
from .wire import (
    BINARY,
    CLOSE,
    FIN,
    PING,
    TEXT,
    Message,
    Reader,
    encode_binary,
    encode_close,
    encode_ping,
    encode_pong,
    encode_text,
    parse_close,
)

if TYPE_CHECKING:
    from .deflate import Deflate
    from .handshake import Handshake

log = logging.getLogger("ringway.ws_server.connection")

READ, WRITE = 1, 2  # libev's event bits
READ_BYTES = 65536
CHUNK_BYTES = 65536  # small queued frames are joined up to this for one send
BATCH = 64  # answers of one wake-up that are kept back for one send
ABNORMAL = 1006  # RFC 6455, section 7.1.5: the connection just broke; never on the wire
DEFLATE_FROM_BYTES = 256
_PING = encode_ping()
_QUIET, _PINGED, _ANSWERED = range(3)  # where a connection is in its ping cycle


class Stream(Protocol):
    """A non-blocking socket, plain or TLS: BlockingIOError when it would block, OSError when it is broken."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes | memoryview, /) -> int: ...
    def fileno(self) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Handler(Protocol):
    """The application's side: plain callbacks that run in the hub and must not block."""

    def on_open(self, connection: Connection, request: Handshake, /) -> None: ...
    def on_text(self, connection: Connection, payload: bytes, /) -> None: ...
    def on_binary(self, connection: Connection, payload: bytes, /) -> None: ...
    def on_close(self, connection: Connection, code: int, reason: str, cause: str, /) -> None:
        """Once for each `on_open`, a turn of the loop after the connection stopped being open."""


class Ending(NamedTuple):
    """Why a connection ended, as it was counted."""

    code: int
    reason: str
    cause: str


class Connection:
    """Open until `ending` is set; the close handshake and the last bytes may take up to `close_s` after that."""

    __slots__ = (
        "__weakref__",
        "_batch",
        "_deflate",
        "_endpoint",
        "_gone",
        "_handler",
        "_on_drained",
        "_paused",
        "_peer_closed",
        "_ping",
        "_queue",
        "_queued",
        "_quiet_s",
        "_reader",
        "_sock",
        "_token",
        "_watcher",
        "_writer",
        "ending",
        "opened_at",
        "peer",
        "user",
    )

    def __init__(
        self, sock: Stream, endpoint: Endpoint, handler: Handler, peer: str, *, deflate: Deflate | None = None
    ) -> None:
        self._sock = sock
        self._endpoint = endpoint
        self._handler = handler
        self._reader: Reader | None = Reader(endpoint.limits.message_bytes, deflate)
        self._deflate = deflate
        self._watcher: Any = endpoint.loop.io(sock.fileno(), READ)
        self._writer: Any = None
        self._queue: deque[bytes | memoryview] | None = None
        self._queued = 0
        self._batch: list[bytes] | None = None
        self._on_drained: Callable[[], None] | None = None
        self._token: int | None = None
        self._paused = self._peer_closed = self._gone = False
        self._ping = _QUIET
        self._quiet_s = 0.0
        self.ending: Ending | None = None
        self.opened_at = time.time()
        self.peer = peer
        self.user: Any = None
        endpoint.add(self)

    def __repr__(self) -> str:
        return f"<Connection {self.peer} user={self.user!r} ending={self.ending}>"

    @property
    def closed(self) -> bool:
        """No longer open: nothing more will be sent or delivered."""
        return self.ending is not None

    @property
    def buffered(self) -> int:
        """Bytes that wait for the socket."""
        return self._queued

    @property
    def paused(self) -> bool:
        return self._paused

    def open(self, response: bytes, request: Handshake, early: bytes = b"") -> None:
        """Send the handshake's response, tell the handler, take the bytes that came with the handshake."""
        self._batch = [response]
        try:
            self._handler.on_open(self, request)
        except Exception as error:  # noqa: BLE001 - the boundary to the application; logged with the session
            self._handler_failed(error)
        self._flush()
        if self._gone:
            return
        limits = self._endpoint.limits
        if self.ending is None and limits.ping_s is not None:
            self._schedule(limits.ping_s * (0.2 + 0.8 * random()))  # spread, so that a crowd does not ping at once
        if early:
            self._endpoint.counters.bytes_in += len(early)
            self._receive(early)
        if not self._gone and not self._paused:
            self._watcher.start(self._on_readable)

    def send(self, data: bytes | str, *, binary: bool = False) -> bool:
        """Send one message; bytes go as text (UTF-8) unless `binary`. False when the connection is no longer open."""
        payload = data.encode() if isinstance(data, str) else data
        if self._deflate is not None and len(payload) >= DEFLATE_FROM_BYTES:
            return self.send_frame(self._deflate.encode(FIN | (BINARY if binary else TEXT), payload))
        return self.send_frame(encode_binary(payload) if binary else encode_text(payload))

    def send_frame(self, frame: bytes, messages: int = 1) -> bool:
        """Send wire bytes as they are: one whole frame, or several joined (then say how many), encoded once for all."""
        if self.ending is not None:
            return False
        self._endpoint.counters.messages_out += messages
        if self._batch is not None:
            self._batch.append(frame)
        else:
            self._write(frame)
        return True

    def close(self, code: int = CloseCode.NORMAL, reason: str = "", cause: str = "node") -> None:
        """Begin the close handshake after what is queued; does nothing when the connection is no longer open."""
        if self.ending is not None:
            return
        self._end(code, reason, cause)
        frame = encode_close(code, reason)
        if self._batch is not None:
            self._batch.append(frame)
        else:
            self._write(frame)
        if not self._gone:
            self.resume()
            self._schedule(self._endpoint.limits.close_s)

    def abort(self, cause: str = "aborted") -> None:
        """Drop the connection now, without a handshake."""
        self._lost(cause)

    def pause(self) -> None:
        """Stop reading, so that the client feels the back pressure. Pings wait meanwhile."""
        if not self._paused and self.ending is None:
            self._paused = True
            self._watcher.stop()

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            if not self._gone:
                self._watcher.start(self._on_readable)

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call back once, when nothing is queued any more or the connection is gone."""
        self._on_drained = callback

    def on_due(self, now: float) -> None:
        """The heartbeat's call: a ping, a missing pong, or the end of the close handshake's time."""
        self._token = None
        limits = self._endpoint.limits
        if self.ending is not None:
            self._tear_down()
        elif limits.ping_s is not None:
            self._beat(limits.ping_s, limits.pong_s, limits.idle_s)

    # -- reading

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(type(error).__name__)
            return
        if not data:
            self._lost("eof")
            return
        self._endpoint.counters.bytes_in += len(data)
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:  # failed: section 7.1.7, nothing more is looked at
            return
        if self.ending is not None:
            self._await_close(reader, data)
            return
        batch: list[bytes] = []
        self._batch = batch
        handler = self._handler
        messages = reader.feed(data)
        try:
            for kind, payload in messages:
                if kind == TEXT:
                    handler.on_text(self, payload)
                elif kind == BINARY:
                    handler.on_binary(self, payload)
                else:
                    self._on_control(kind, payload)
                if len(batch) >= BATCH:
                    batch = self._rebatch()
                if self.ending is not None:
                    break
        except Exception as error:  # noqa: BLE001 - the boundary to the application; logged with the session
            self._handler_failed(error)
        self._after_messages(reader, messages)

    def _after_messages(self, reader: Reader, messages: list[Message]) -> None:
        self._endpoint.counters.messages_in += len(messages)
        if messages and messages[-1][0] <= BINARY:
            self._quiet_s = 0.0
        if reader.ended:
            self._peer_closed = True
        if reader.fault is not None:
            self.close(*reader.fault, cause="protocol")
            self._reader = None
        if self._batch:
            self._flush()
        else:
            self._batch = None

    def _on_control(self, kind: int, payload: bytes) -> None:
        self._endpoint.counters.messages_in -= 1  # counted with its wake-up, but not the application's
        if kind == PING:
            assert self._batch is not None
            self._batch.append(encode_pong(payload))
        elif kind == CLOSE:
            code, reason = parse_close(payload)
            self._drop_queue()
            self._end(code, reason, "client")
            self._schedule(self._endpoint.limits.close_s)
            assert self._batch is not None
            self._batch.append(encode_close(code))
        elif self._ping == _PINGED:
            self._ping = _ANSWERED

    def _await_close(self, reader: Reader, data: bytes) -> None:
        """After our close frame: only the peer's is of interest."""
        reader.feed(data)
        if reader.fault is not None:
            self._reader = None
        if reader.ended:
            self._peer_closed = True
            self._finish_when_drained()

    # -- writing

    def _flush(self) -> None:
        """End of a wake-up: all that was said in it goes out in one send."""
        batch, self._batch = self._batch, None
        if batch:
            self._write(batch[0] if len(batch) == 1 else b"".join(batch))
        if self.ending is not None:
            self._finish_when_drained()

    def _rebatch(self) -> list[bytes]:
        self._flush()
        self._batch = []
        return self._batch

    def _write(self, data: bytes) -> None:
        if self._gone:
            return
        if self._queue:
            self._enqueue(data)
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lost(type(error).__name__)
            return
        self._endpoint.counters.bytes_out += sent
        if sent < len(data):
            self._enqueue(memoryview(data)[sent:])

    def _enqueue(self, data: bytes | memoryview) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(data)
        self._count_queued(len(data))
        if self._writer is None:
            self._writer = self._endpoint.loop.io(self._sock.fileno(), WRITE)
        if not self._writer.active:
            self._writer.start(self._on_writable)
        limit = self._endpoint.limits.queue_bytes
        if limit is not None and self._queued > limit and self.ending is None:
            self._endpoint.counters.slow_consumers += 1
            self._drop_queue()
            self.close(CloseCode.SLOW_CONSUMER, cause="slow consumer")

    def _on_writable(self) -> None:
        queue = self._queue
        while queue:
            data = self._next_chunk(queue)
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._lost(type(error).__name__)
                return
            self._endpoint.counters.bytes_out += sent
            self._count_queued(-sent)
            if sent < len(data):
                queue.appendleft(memoryview(data)[sent:])  # one piece: what is begun stays at the head
                return
        self._writer.stop()
        self._drained()

    @staticmethod
    def _next_chunk(queue: deque[bytes | memoryview]) -> bytes | memoryview:
        chunk = queue.popleft()
        if not queue or len(chunk) >= CHUNK_BYTES:
            return chunk
        parts, size = [chunk], len(chunk)
        while queue and size < CHUNK_BYTES:
            parts.append(queue.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    def _drained(self) -> None:
        self._queue = None
        callback, self._on_drained = self._on_drained, None
        if callback is not None:
            callback()
        if self.ending is not None:
            self._finish_when_drained()

    def _drop_queue(self) -> None:
        """Forget what is queued, except its head: part of that may be on the wire, and a frame is never torn."""
        if self._queue is not None and len(self._queue) > 1:
            head = self._queue[0]
            self._queue.clear()
            self._queue.append(head)
            self._count_queued(len(head) - self._queued)

    def _count_queued(self, change: int) -> None:
        self._queued += change
        self._endpoint.counters.queue_bytes += change

    # -- ending

    def _end(self, code: int, reason: str, cause: str) -> None:
        """The one way out of being open: recorded, counted by code and cause, told to the handler a loop turn later."""
        self.ending = Ending(code, reason, cause)
        self._endpoint.counters.count_close(code, cause)
        self._endpoint.loop.run_callback(self._report)

    def _report(self) -> None:
        assert self.ending is not None
        try:
            self._handler.on_close(self, *self.ending)
        except Exception:
            self._endpoint.counters.handler_errors += 1
            log.exception("on_close failed for %r", self)

    def _handler_failed(self, error: Exception) -> None:
        self._endpoint.counters.handler_errors += 1
        log.error("handler failed for %r", self, exc_info=error)
        self.close(CloseCode.NODE_ERROR, cause="handler error")

    def _lost(self, cause: str) -> None:
        if self.ending is None:
            self._end(ABNORMAL, "", cause)
        self._tear_down()

    def _finish_when_drained(self) -> None:
        """Our last frame has left: a server closes first once both close frames are through (section 7.1.1)."""
        if self._queue or self._gone:
            return
        if self._peer_closed:
            self._tear_down()
        elif self._reader is None:
            self._half_close()

    def _half_close(self) -> None:
        """After a protocol error: closing with unread input would send RST, and our close frame would be lost."""
        try:
            self._sock.shutdown(SHUT_WR)
        except OSError:
            self._tear_down()  # the peer is gone already

    def _schedule(self, delay_s: float) -> None:
        if self._token is not None:
            self._endpoint.heartbeat.cancel(self, self._token)
        self._token = self._endpoint.heartbeat.schedule(self, delay_s)

    def _beat(self, ping_s: float, pong_s: float, idle_s: float | None) -> None:
        if self._ping == _PINGED and not self._paused:
            self.close(CloseCode.NO_PONG, cause="no pong")
        elif self._ping == _ANSWERED:
            self._ping = _QUIET
            self._schedule(ping_s - pong_s)
        elif idle_s is not None and self._quiet_s >= idle_s:
            self.close(CloseCode.GOING_AWAY, cause="idle")
        else:
            self._quiet_s += ping_s
            self._ping = _PINGED
            self._write(_PING)
            if not self._gone:
                self._schedule(pong_s)

    def _tear_down(self) -> None:
        """Give everything back; watchers before the descriptor, whose number may be used again at once."""
        if self._gone:
            return
        self._gone = True
        for watcher in (self._watcher, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        if self._token is not None:
            self._endpoint.heartbeat.cancel(self, self._token)
        self._count_queued(-self._queued)
        self._queue = self._batch = self._reader = self._writer = None
        self._sock.close()
        self._endpoint.remove(self)
        callback, self._on_drained = self._on_drained, None
        if callback is not None:
            callback()
