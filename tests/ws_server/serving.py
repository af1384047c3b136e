"""A real Acceptor on port 0 in this process's hub, and a client that sends any bytes at all."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socket import SO_LINGER, SO_RCVBUF, SOL_SOCKET, create_server
from typing import TYPE_CHECKING, Any

import gevent
from gevent import socket as gsocket

from ringway.ws_server.acceptor import Acceptor
from ringway.ws_server.connection import Connection
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.handshake import Accept, Handshake, Refuse
from ringway.ws_server.tls import TlsFiles
from ringway.ws_server.wire import encode_binary, encode_text
from tests.ws_server.frames import close_frame, frame

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HEAD = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: " + KEY + "\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
)
Frame = tuple[int, bytes]


def until(predicate: Callable[[], Any], timeout_s: float = 5.0) -> Any:
    """Poll, letting the hub run; AssertionError when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not (answer := predicate()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s; last answer: {answer!r}"
        gevent.sleep(0.005)
    return answer


@dataclass
class Echo:
    """Echoes, and remembers what happened."""

    verdict: Accept | Refuse = field(default_factory=Accept)
    requests: list[Handshake] = field(default_factory=list)
    opened: list[Connection] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    closed: list[tuple[int, str, str]] = field(default_factory=list)

    def on_request(self, request: Handshake) -> Accept | Refuse:
        self.requests.append(request)
        return self.verdict

    def on_open(self, connection: Connection, request: Handshake) -> None:
        self.opened.append(connection)

    def on_text(self, connection: Connection, payload: bytes) -> None:
        self.received.append(payload)
        connection.send_frame(encode_text(payload))

    def on_binary(self, connection: Connection, payload: bytes) -> None:
        self.received.append(payload)
        connection.send_frame(encode_binary(payload))

    def on_close(self, connection: Connection, code: int, reason: str, cause: str) -> None:
        self.closed.append((code, reason, cause))


class Client:
    """A socket after its handshake; reads frames, sends bytes."""

    def __init__(self, sock: Any, early: bytes = b"") -> None:
        self.sock = sock
        self._buffer = bytearray(early)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def text(self, text: str) -> None:
        self.send(frame(1, text.encode()))

    def read(self) -> Frame:
        """The next frame; EOFError at the end of the stream, TimeoutError after the socket's timeout."""
        head = self._take(2)
        size = head[1]
        assert size < 128, "a server never masks"
        if size > 125:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        assert head[0] & 0x80, "the server never fragments"
        return head[0] & 0x7F, bytes(self._take(size))

    def read_all(self) -> list[Frame]:
        """All frames up to the end of the stream, which must not tear one."""
        frames: list[Frame] = []
        while True:
            try:
                frames.append(self.read())
            except EOFError:
                assert not self._buffer, f"torn frame: {bytes(self._buffer[:20])!r}"
                return frames

    def goodbye(self) -> list[Frame]:
        self.send(close_frame(1000))
        frames = self.read_all()
        self.sock.close()
        return frames

    def reset(self) -> None:
        """RST instead of FIN."""
        self.sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _take(self, size: int) -> bytearray:
        while len(self._buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data
        taken = self._buffer[:size]
        del self._buffer[:size]
        return taken


@dataclass
class Port:
    """What `serving` yields."""

    acceptor: Acceptor
    handler: Any

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.acceptor.address[:2]
        return host, port

    @property
    def counters(self) -> Any:
        return self.acceptor.endpoint.counters

    def raw(self, *, receive_bytes: int | None = None) -> Any:
        """A connected socket that has said nothing yet."""
        sock = gsocket.socket()
        if receive_bytes is not None:
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, receive_bytes)
        sock.settimeout(10.0)
        sock.connect(self.address)
        return sock

    def ask(self, request: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        sock = self.raw()
        sock.sendall(request)
        answer = b""
        while data := sock.recv(65536):
            answer += data
        sock.close()
        return answer

    def connect(
        self, path: str = "/ws", extra: str = "", *, receive_bytes: int | None = None, early: bytes = b""
    ) -> Client:
        """A client after its handshake."""
        return handshake(self.raw(receive_bytes=receive_bytes), path, extra, early)[0]


def handshake(sock: Any, path: str = "/ws", extra: str = "", early: bytes = b"") -> tuple[Client, str]:
    sock.sendall(HEAD.format(path=path, extra=extra).encode() + early)
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = sock.recv(65536)
        assert data, f"no handshake: {answer!r}"
        answer += data
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return Client(sock, rest), head.decode()


@contextmanager
def serving(
    handler: Any = None,
    limits: Limits | None = None,
    app: WSGIApplication | None = None,
    tls: TlsFiles | None = None,
    alive: Callable[[], bytes] | None = None,
) -> Iterator[Port]:
    listener = create_server(("127.0.0.1", 0), backlog=1024)
    chosen = handler if handler is not None else Echo()
    acceptor = Acceptor(listener, handler=chosen, wsgi_app=app, limits=limits, tls=tls, alive=alive)
    acceptor.start()
    try:
        yield Port(acceptor, chosen)
    finally:
        acceptor.close(0.2)
