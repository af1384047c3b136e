"""One WebSocket connection on gevent's event loop: a non-blocking socket, callbacks, and no greenlet.

Reads: one `recv` per wake-up, all complete frames of it, one `send` for all answers. Writes: straight to the socket
while nothing waits; what the kernel does not take goes to a bounded outbox, emptied when the socket is writable.
Everything runs in one thread; no method blocks or switches, so handlers and greenlets may call any of them at any time.
"""

from __future__ import annotations

import logging
import time
from _socket import socket as RawSocket
from collections.abc import Callable
from errno import ENOMEM
from random import random
from socket import SHUT_WR
from typing import TYPE_CHECKING, Any

from ringway.core.close_codes import CloseCode

from . import fast
from .endpoint import Endpoint
from .handler import Ending, Handler, Stream
from .outbox import Outbox
from .patience import Patience
from .poller import NONE, READ, WRITE
from .tcp import flow
from .wire import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    Message,
    Reader,
    encode_binary,
    encode_close,
    encode_own_close,
    encode_ping,
    encode_pong,
    encode_text,
    parse_close,
)

if TYPE_CHECKING:
    from .deflate import Deflate
    from .handshake import Handshake

log = logging.getLogger("ringway.ws_server.connection")

READ_BYTES = 65536
BATCH = 64  # answers of one wake-up that are kept back for one send
ABNORMAL = 1006  # RFC 6455, section 7.1.5: the connection just broke; never on the wire
_BROKEN = {0: "eof", ENOMEM: "out of memory"}
_PING = encode_ping()
_QUIET, _PINGED, _ANSWERED = range(3)  # where a connection is in its ping cycle


class Connection(fast.Line):
    """Open until `ending` is set; the close handshake and the last bytes may take up to `close_s` after that."""

    __slots__ = (
        "__weakref__", "_batch", "_burst", "_endpoint", "_gone", "_handler", "_held", "_on_drained", "_outbox",
        "_patience", "_paused", "_peer_closed", "_ping", "_plain", "_quiet_s", "_reader", "_sock", "_token",
        "deflate", "ending", "opened_at", "peer", "user",
    )  # fmt: skip

    def __init__(
        self, sock: Stream, endpoint: Endpoint, handler: Handler, peer: str, *, deflate: Deflate | None = None
    ) -> None:
        self._sock = sock
        self._plain = endpoint.limits.message_bytes if fast.compiled and isinstance(sock, RawSocket) else -1
        self.plain_limit = self._plain
        self.descriptor = sock.fileno()
        self.unsent = None
        self._endpoint = endpoint
        self._burst = endpoint.burst
        self._handler = handler
        self._reader: Reader | None = Reader(endpoint.limits.message_bytes, deflate)
        self._outbox: Outbox | None = None
        self._batch: list[bytes] | None = None
        self._on_drained: list[Callable[[], None]] | None = None
        self._token: int | None = None
        self._paused = self._peer_closed = self._gone = self._held = False
        self._ping = _QUIET
        self._patience: Patience | None = None
        self._quiet_s = 0.0
        self.deflate = deflate
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
        return 0 if self._outbox is None else self._outbox.size

    @property
    def paused(self) -> bool:
        return self._paused

    def open(self, response: bytes, request: Handshake, early: bytes = b"") -> None:
        """Send the handshake's response, tell the handler, take the bytes that came with the handshake."""
        self._batch = [response]
        self._watch()
        try:
            self._handler.on_open(self, request)
        except Exception as error:  # noqa: BLE001 - the boundary to the application; logged with the session
            self._handler_failed(error)
        if not self._held:
            self.flush()
        ping_s = self._endpoint.limits.ping_s
        if self.ending is None and ping_s is not None:
            self._schedule(ping_s * (0.2 + 0.8 * random()))  # spread, so that a crowd does not ping at once
        if early and not self._gone:
            self._receive(early)

    def hold(self) -> None:
        """In `on_open`: keep the handshake's response back until `release`, for one send with what follows soon.

        What the client sends meanwhile, and `close`, release it too. Anywhere else it does nothing.
        """
        self._held = self._batch is not None

    def release(self) -> None:
        """Send what is held."""
        if self._held:
            self.flush()

    def send(self, data: bytes | str, *, binary: bool = False) -> bool:
        """Send one message; bytes go as text (UTF-8) unless `binary`. False when the connection is no longer open."""
        payload = data.encode() if isinstance(data, str) else data
        frame = encode_binary(payload) if binary else encode_text(payload)
        return self.send_frame(frame if self.deflate is None else self.deflate.pack(frame))

    def send_frame(self, frame: bytes, messages: int = 1) -> bool:
        """Send wire bytes as they are: one whole frame, or several joined (then say how many), encoded once for all."""
        if self.ending is not None:
            return False
        self._endpoint.counters.messages_out += messages
        if self._batch is not None:
            self._batch.append(frame)
        elif self._burst.on:
            self._batch = [frame]
            self._burst.add(self)
        else:
            self._write(frame)
        return True

    def close(self, code: int = CloseCode.NORMAL, reason: str = "", cause: str = "node") -> None:
        """Begin the close handshake after what is queued, unless it began. Raises InvalidInput: no code to send."""
        frame = encode_own_close(code, reason)  # before anything changes
        if self.ending is None:
            self._end(code, reason, cause)
            self._say(frame)
            self.release()
            self.resume()
            self._schedule(self._endpoint.limits.close_s)

    def abort(self, cause: str = "aborted") -> None:
        """Drop the connection now, without a handshake."""
        if self.ending is None:
            self._end(ABNORMAL, "", cause)
        self._tear_down()

    def pause(self) -> None:
        """Stop reading, so that the client feels the back pressure. Pings wait meanwhile."""
        if not self._paused and self.ending is None:
            self._paused = True
            self._watch()

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self._watch()

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call back once, when nothing is queued any more or the connection is gone."""
        if self._on_drained is None:
            self._on_drained = []
        self._on_drained.append(callback)

    # -- reading

    def on_readable(self) -> None:
        """The poller's call."""
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.abort(type(error).__name__)
            return
        if data:
            self._receive(data)
        else:
            self.abort("eof")

    def on_failed(self) -> None:
        """The poller's call."""
        self.abort("error")

    def on_frames(self, messages: list[Message], rest: bytes | None) -> None:
        """The compiled poller's call: whole messages that it read, and what came after them and is for the `Reader`.

        The answers are left in `unsent`; the poller sends them after it has told the others that it read with this one.
        """
        if self._batch is not None:
            self.flush()
        reader = self._reader
        if reader is None or self.ending is not None:
            self._await_close(rest or b"")
            return
        if rest is not None:
            messages += reader.feed(rest)
            self._plan(reader)
        self._deliver(reader, messages)
        if self._outbox is not None or self.ending is not None:
            self.flush()
            return
        batch, self._batch = self._batch, None
        if batch:
            self.unsent = batch[0] if len(batch) == 1 else b"".join(batch)

    def on_unsent(self, data: bytes, sent: int) -> None:
        """The compiled poller's call: the socket took only so many bytes; -errno when it is broken."""
        if sent < 0:
            self.on_broken(-sent)
        else:
            self._left(memoryview(data)[sent:])

    def on_broken(self, error: int) -> None:
        """The compiled poller's call: nothing can be read any more. Args: error: an errno; 0: the stream's end."""
        self.abort(_BROKEN.get(error) or type(OSError(error, "")).__name__)

    def _receive(self, data: bytes) -> None:
        if self._batch is not None:
            self.flush()
        self._endpoint.counters.bytes_in += len(data)
        reader = self._reader
        if reader is None or self.ending is not None:
            self._await_close(data)
            return
        messages = reader.feed(data)
        if self._plain >= 0:
            self._plan(reader)
        self._deliver(reader, messages)
        self.flush()

    def _plan(self, reader: Reader) -> None:
        """What is begun is for the reader to go on with; else the poller may read messages by itself."""
        self.plain_limit = -1 if reader.mid_message else self._plain

    def _deliver(self, reader: Reader, messages: list[Message]) -> None:
        batch: list[bytes] = []
        self._batch = batch
        handler = self._handler
        self._endpoint.counters.messages_in += len(messages)
        kind = CLOSE
        try:
            for kind, payload in messages:
                if kind == TEXT:
                    handler.on_text(self, payload)
                elif kind == BINARY:
                    handler.on_binary(self, payload)
                else:
                    self._on_control(kind, payload)
                if len(batch) >= BATCH:
                    self.flush()
                    self._batch = batch = []
                if self.ending is not None:
                    break
        except Exception as error:  # noqa: BLE001 - the boundary to the application; logged with the session
            self._handler_failed(error)
        if kind < CLOSE:
            self._quiet_s = 0.0
        if reader.ended:
            self._on_reader_ended(reader)

    def _on_control(self, kind: int, payload: bytes) -> None:
        self._endpoint.counters.messages_in -= 1  # counted with its wake-up, but not the application's
        if kind == PING:
            self._say(encode_pong(payload))
        elif kind == CLOSE:
            code, reason = parse_close(payload)
            if self._outbox is not None:
                self._drop_outbox(self._outbox)
            self._end(code, reason, "client")
            self._say(encode_close(code))
            self._schedule(self._endpoint.limits.close_s)
        elif self._ping == _PINGED:
            self._ping = _ANSWERED

    def _on_reader_ended(self, reader: Reader) -> None:
        if reader.fault is None:
            self._peer_closed = True
        else:
            self.close(*reader.fault, cause="protocol")
            self._reader = None  # section 7.1.7: nothing more is looked at

    def _await_close(self, data: bytes) -> None:
        """After our close frame: only the peer's is of interest."""
        if self._reader is not None:
            self._reader.feed(data)
            self._plan(self._reader)
            if self._reader.ended:
                self._on_reader_ended(self._reader)
                self._finish_when_drained()

    # -- writing

    def on_writable(self) -> None:
        """The poller's call: empty the outbox."""
        outbox = self._outbox
        while outbox is not None and outbox.size:
            chunk = outbox.take()
            sent = self._try_send(chunk)
            self._endpoint.counters.queue_bytes -= sent if sent >= 0 else len(chunk)
            if sent < 0:
                return
            if sent < len(chunk):
                outbox.put_back(memoryview(chunk)[sent:])
                return
        self._outbox = None
        self._watch()
        self._drained()

    def flush(self) -> None:
        """End of a wake-up, or of a burst: all that was said in it goes out in one send."""
        batch, self._batch, self._held = self._batch, None, False
        if batch:
            self._write(batch[0] if len(batch) == 1 else b"".join(batch))
        if self.ending is not None:
            self._finish_when_drained()

    def _say(self, frame: bytes) -> None:
        """A control frame: in order with everything else."""
        if self._batch is not None:
            self._batch.append(frame)
        else:
            self._write(frame)

    def _write(self, data: bytes) -> None:
        if self._outbox is not None:
            self._enqueue(self._outbox, data)
            return
        if self.unsent is not None:
            data = self.unsent + data
            self.unsent = None
        sent = self._try_send(data)
        if 0 <= sent < len(data):
            self._left(memoryview(data)[sent:])

    def _left(self, rest: memoryview) -> None:
        """The socket is full."""
        self._outbox = Outbox()
        self._watch()
        self._enqueue(self._outbox, rest)

    def _try_send(self, data: bytes | memoryview) -> int:
        """How many bytes the socket took; -1 when it is broken."""
        if self._gone:
            return -1
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.abort(type(error).__name__)
            return -1
        self._endpoint.counters.bytes_out += sent
        return sent

    def _enqueue(self, outbox: Outbox, data: bytes | memoryview) -> None:
        outbox.push(data)
        self._endpoint.counters.queue_bytes += len(data)
        limit = self._endpoint.limits.queue_bytes
        if limit is not None and outbox.size > limit and self.ending is None:
            self._endpoint.counters.slow_consumers += 1
            self._drop_outbox(outbox)
            self.close(CloseCode.SLOW_CONSUMER, cause="slow consumer")

    def _drop_outbox(self, outbox: Outbox) -> None:
        before = outbox.size
        outbox.drop_all_but_head()
        self._endpoint.counters.queue_bytes += outbox.size - before

    def _drained(self) -> None:
        callbacks, self._on_drained = self._on_drained, None
        for callback in callbacks or ():
            callback()
        if self.ending is not None:
            self._finish_when_drained()

    def _watch(self) -> None:
        """Tell the poller what this connection waits for now."""
        if not self._gone:
            events = (NONE if self._paused else READ) | (NONE if self._outbox is None else WRITE)
            self._endpoint.poller.watch(self.descriptor, self, events)

    # -- deadlines

    def on_due(self, now: float) -> None:
        """The heartbeat's call: a ping, a missing pong, or the end of the close handshake's time."""
        self._token = None
        limits = self._endpoint.limits
        if self.ending is not None:
            self._tear_down()
        elif self._ping == _PINGED and not self._paused:
            self._pong_is_late()
        elif self._ping == _ANSWERED:
            self._ping = _QUIET
            self._patience = None
            self._schedule(max(0.0, (limits.ping_s or 0.0) - limits.pong_s))
        elif limits.idle_s is not None and self._quiet_s >= limits.idle_s:
            self.close(CloseCode.GOING_AWAY, cause="idle")
        else:
            self._quiet_s += limits.ping_s or 0.0
            self._ping = _PINGED
            self._schedule(limits.pong_s)
            self._say(_PING)

    def _pong_is_late(self) -> None:
        if self._patience is None:
            self._patience = Patience()
        pong_s = self._endpoint.limits.pong_s
        if self._patience.lasts(flow(self._sock, self.buffered), pong_s):
            self._schedule(pong_s)
        else:
            self.close(CloseCode.NO_PONG, cause="no pong")

    def _schedule(self, delay_s: float) -> None:
        if self._token is not None:
            self._endpoint.heartbeat.cancel(self, self._token)
        if not self._gone:
            self._token = self._endpoint.heartbeat.schedule(self, delay_s)

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

    def _finish_when_drained(self) -> None:
        """Our last frame has left: a server closes first once both close frames are through (section 7.1.1)."""
        if self._outbox is not None or self._batch is not None or self._gone:
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

    def _tear_down(self) -> None:
        """Give everything back; the poller first, because the descriptor's number may be used again at once."""
        if self._gone:
            return
        self._gone = True
        self._endpoint.poller.forget(self.descriptor)
        self.descriptor = -1
        self.unsent = None
        self._sock.close()
        if self._token is not None:
            self._endpoint.heartbeat.cancel(self, self._token)
        self._endpoint.counters.queue_bytes -= self.buffered
        self._outbox = self._batch = self._reader = None
        self._endpoint.remove(self)
        self._drained()
