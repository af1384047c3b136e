"""TLS for a connection that one thread reads while others write, as `websockets` does in its blocking client.

An OpenSSL connection must be used by one thread at a time (openssl-threads(7)), but `ssl.SSLSocket` lets a read and a
write in at once, with the GIL released. When the session tickets of TLS 1.3 are read while the first bytes are written,
these may never leave: of 400 blocking clients, one waited for its handshake's answer until the time-out. Later it may
lose or garble what is sent, or crash (CPython's issues 124984 and 151508).
"""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import suppress
from socket import SHUT_RD, SHUT_RDWR, socket
from typing import Any, cast

_READ_BYTES = 65536


def threaded(context: ssl.SSLContext) -> ssl.SSLContext:
    """What to give to `websockets` in the place of a context: all that it asks of one is `wrap_socket`."""
    return cast(ssl.SSLContext, _ThreadedContext(context))


class _ThreadedContext:
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_socket(self, sock: socket, *, server_hostname: str) -> ThreadedSocket:
        """A client's TLS over a connected socket, after its handshake. Raises OSError (so ssl.SSLError, TimeoutError).

        The handshake as a whole has the socket's time-out.
        """
        wrapped = ThreadedSocket(sock, self._context, server_hostname)
        wrapped.do_handshake()
        return wrapped


class ThreadedSocket:
    """What of a socket's interface `websockets` uses; one thread may read while others write.

    Who reads never sends, or both sides might wait for the other to read: the answer to a new key leaves with the next
    write, as it may (RFC 8446, section 4.6.3).
    """

    def __init__(self, sock: socket, context: ssl.SSLContext, server_hostname: str) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._ended = False  # nothing more will be read
        self._using = threading.Lock()  # of the three objects of OpenSSL; nobody waits for the network with it
        self._sending = threading.Lock()  # records must leave in the order in which they were made

    def do_handshake(self) -> None:
        timeout_s = self._sock.gettimeout()
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._shakes():
            if until is not None:
                self._sock.settimeout(max(0.001, until - time.monotonic()))
            self._pull()

    def recv(self, size: int, /) -> bytes:
        """All that has come: more than `size` if need be, as no event would tell of bytes left behind. b"": the end."""
        while True:
            with self._using:
                data = self._read()
            if data is not None:
                return data
            self._pull()

    def sendall(self, data: bytes | memoryview, /) -> None:
        left = memoryview(data)
        with self._sending:
            while left:
                with self._using:
                    left = left[self._tls.write(left) :]
                    records = self._outgoing.read()
                self._sock.sendall(records)

    def fileno(self) -> int:
        return self._sock.fileno()

    def settimeout(self, timeout_s: float | None, /) -> None:
        self._sock.settimeout(timeout_s)

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def getpeername(self) -> Any:
        return self._sock.getpeername()

    def shutdown(self, how: int, /) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        with suppress(OSError):  # gone already
            self._sock.shutdown(SHUT_RDWR)  # wakes a reader, as a close does not
        self._sock.close()

    def _shakes(self) -> bool:
        """Go on with the handshake; False: when more has come."""
        done = True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            done = False
        except OSError:
            with suppress(OSError):  # what is wrong counts, not whether the peer can be told
                self._sock.sendall(self._outgoing.read())
            raise
        self._sock.sendall(self._outgoing.read())
        return done

    def _read(self) -> bytes | None:
        """Until nothing is left; None: nothing was there. A peer that went without a goodbye is an end as well."""
        chunks: list[bytes] = []
        try:
            while not self._ended:
                chunk = self._tls.read(_READ_BYTES)
                self._ended = not chunk
                chunks.append(chunk)
        except ssl.SSLWantReadError:
            return b"".join(chunks) or None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        with suppress(OSError):  # the peer is gone, which is an event too
            self._sock.shutdown(SHUT_RD)  # the socket stays readable, where the goodbye came with the last bytes
        return b"".join(chunks)

    def _pull(self) -> None:
        data = self._sock.recv(_READ_BYTES)
        with self._using:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
