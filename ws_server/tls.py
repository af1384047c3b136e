"""TLS on the event loop: `TlsStream` behaves like a non-blocking socket, so connections do not know the difference.

Memory BIOs rather than `SSLSocket`: gevent's monkey-patching replaces that class by one that switches greenlets.
"""

from __future__ import annotations

import io
import ssl
import time
from _socket import socket as RawSocket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import SHUT_RD
from typing import Any

from gevent.socket import wait_read, wait_write

from .due import Due

_READ_BYTES = 65536
# A fatal alert instead of a handshake: internal_error, "unrelated to the peer" (RFC 8446, section 6.2), in a record as
# all versions write it. A client says at once that the server turned it away; a bare close looks like a broken network.
OVERLOADED = bytes((21, 3, 3, 0, 2, 2, 80))


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate with its chain, and its key."""

    cert: Path
    key: Path


class TlsContext:
    """The current certificate. `reload` replaces it for connections to come."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._context = self._load()

    def reload(self) -> None:
        """Read the files again; an unreadable or mismatched pair raises (OSError, ssl.SSLError) and changes nothing."""
        self._context = self._load()

    def wrap(self, sock: RawSocket) -> TlsStream:
        return TlsStream(sock, self._context)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._files.cert, self._files.key)
        return context


class TlsStream:
    """A server's TLS over a raw non-blocking socket, with that socket's own signals: BlockingIOError and OSError."""

    __slots__ = ("_accepted", "_ended", "_incoming", "_outgoing", "_sock", "_tls", "_unsent")

    def __init__(self, sock: RawSocket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = b""  # encrypted
        self._ended = False  # the client has said its goodbye
        self._accepted = 0  # plain bytes at the head of the next `send` that are in `_unsent` already

    def do_handshake(self) -> None:
        """Go on with the handshake; BlockingIOError: call again when readable."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                self._pull()
            else:
                self._push()
                return

    def recv(self, size: int, /) -> bytes:
        """All that the records read so far hold; never leaves plain bytes behind, for which no event would come."""
        chunks: list[bytes] = []
        if not self._tls.pending() and not self._incoming.pending:
            self._pull()
        while True:
            try:
                chunk = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                if chunks:
                    break
                self._pull()
                continue
            except ssl.SSLZeroReturnError:
                chunk = b""
            if not chunk:
                self._end()
                break
            chunks.append(chunk)
            if not self._incoming.pending and not self._tls.pending():
                break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def send(self, data: bytes | memoryview, /) -> int:
        """How many bytes left. After BlockingIOError the next call must begin with the same bytes."""
        if not self._accepted:
            self._accepted = self._tls.write(data)
            self._unsent += self._outgoing.read()
        self._flush()
        sent, self._accepted = self._accepted, 0
        return sent

    def fileno(self) -> int:
        return self._sock.fileno()

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        return self._sock.getsockopt(level, option, size)

    def shutdown(self, how: int, /) -> None:
        self._say_goodbye()
        self._sock.shutdown(how)

    def close(self) -> None:
        self._say_goodbye()
        self._sock.close()

    def cooperative(self, head: bytes, timeout_s: float) -> CooperativeTls:
        """This stream as pywsgi wants a socket; `head` is what was read already."""
        return CooperativeTls(self, head, timeout_s)

    def _pull(self) -> None:
        data = self._sock.recv(_READ_BYTES)
        if data:
            self._incoming.write(data)
        elif not self._ended:
            self._incoming.write_eof()
            raise ConnectionResetError("the client went away without a goodbye")

    def _end(self) -> None:
        """After the goodbye no bytes need come, so no event either: shut for reading, the socket stays readable."""
        self._ended = True
        with suppress(OSError):  # the client is gone, which is an event too
            self._sock.shutdown(SHUT_RD)

    def _say_goodbye(self) -> None:
        """A close_notify, or the alert that OpenSSL left when the client broke the protocol; as far as they go now."""
        with suppress(OSError):
            self._tls.unwrap()
        with suppress(OSError):
            self._push()

    def _push(self) -> None:
        self._unsent += self._outgoing.read()
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]


class CooperativeTls(io.RawIOBase, Due):
    """The socket interface that pywsgi uses: blocks its greenlet, not the loop."""

    def __init__(self, stream: TlsStream, head: bytes, timeout_s: float) -> None:
        super().__init__()
        self._stream: TlsStream | None = stream
        self.head = head
        self._timeout_s = timeout_s

    @property
    def _sock(self) -> CooperativeTls:
        """Where `detach` looks, as in a SocketIO."""
        return self

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.head or self._receive(len(buffer))
        count = min(len(data), len(buffer))
        buffer[:count] = data[:count]
        self.head = data[count:]
        return count

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        return io.BufferedReader(self)

    def recv(self, size: int) -> bytes:
        """Without blocking: pywsgi calls it once before it closes, to throw away what a client still sends."""
        return self._open().recv(size)

    def sendall(self, data: bytes) -> None:
        until = time.monotonic() + self._timeout_s
        view = memoryview(data)
        while view:
            try:
                view = view[self._open().send(view) :]
            except BlockingIOError:
                wait_write(self._open().fileno(), timeout=max(0.0, until - time.monotonic()))

    def detach(self) -> TlsStream:
        """Give the stream away: nothing can be read or written here any more."""
        stream, self._stream = self._open(), None
        return stream

    def close(self) -> None:
        if not self.closed and self._stream is not None:
            self._stream.close()
        super().close()

    def _open(self) -> TlsStream:
        if self._stream is None:
            raise ConnectionResetError("the stream was handed over")
        return self._stream

    def _receive(self, size: int) -> bytes:
        while True:
            try:
                return self._open().recv(size)
            except BlockingIOError:
                try:
                    wait_read(self._open().fileno(), timeout=self.left_s)
                except TimeoutError:
                    raise self.too_late() from None
