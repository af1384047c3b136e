"""A bare ZooKeeper session over a socket, for what kazoo would not send: silence, lies, setWatches."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

OPEN_ACL = struct.pack("!ii", 1, 31) + struct.pack("!i", 5) + b"world" + struct.pack("!i", 6) + b"anyone"
CREATE, EXISTS, SET_WATCHES = 1, 3, 101
EPHEMERAL = 1


def text(value: str) -> bytes:
    return struct.pack("!i", len(value.encode())) + value.encode()


def texts(*values: str) -> bytes:
    return struct.pack("!i", len(values)) + b"".join(map(text, values))


class RawSession:
    """Connects and reads the answer; after it, only what the test asks for is sent, and no ping.

    `granted_ms` is the negotiated timeout, 0 for an expired session, None when the server hung up without an answer.
    """

    def __init__(
        self, address: str, *, timeout_ms: int = 4000, session: tuple[int, bytes] = (0, bytes(16)), last_zxid: int = 0
    ) -> None:
        host, port = address.split(",")[0].rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=10.0)
        session_id, password = session
        connect = struct.pack("!iqiqi", 0, last_zxid, timeout_ms, session_id, len(password)) + password + b"\0"
        self.send(connect)
        answer = self.packet()
        self.granted_ms: int | None = None
        if answer is not None:
            _, self.granted_ms, self.id = struct.unpack_from("!iiq", answer)
            self.password = answer[20:36]

    def request(self, xid: int, op: int, body: bytes) -> None:
        self.send(struct.pack("!ii", xid, op) + body)

    def create(self, path: str, flags: int) -> int:
        """Creates a znode and returns the error code of the answer."""
        self.request(1, CREATE, text(path) + text("") + OPEN_ACL + struct.pack("!i", flags))
        return self.answer()[2]

    def answer(self) -> tuple[int, int, int, bytes]:
        """The next packet: xid, zxid, error code, body."""
        packet = self.packet()
        assert packet is not None, "the server hung up"
        xid, zxid, code = struct.unpack_from("!iqi", packet)
        return xid, zxid, code, packet[16:]

    def event(self) -> tuple[int, str]:
        """The next packet, which has to be a watch event: its type and its path."""
        xid, _, _, body = self.answer()
        assert xid == -1, f"xid {xid} is no watch event"
        kind, _, length = struct.unpack_from("!iii", body)
        return kind, body[12 : 12 + length].decode()

    def packet(self) -> bytes | None:
        """The next packet; None when the server has closed the connection."""
        head = self._take(4)
        return self._take(struct.unpack("!i", head)[0]) if head else None

    def send(self, body: bytes) -> None:
        """Sends one packet, whatever is in it."""
        self._socket.sendall(struct.pack("!i", len(body)) + body)

    def expect_silence(self, seconds: float) -> None:
        """Raises AssertionError if the server says anything within that time."""
        self._socket.settimeout(seconds)
        try:
            data = self._socket.recv(1)
        except TimeoutError:
            return
        finally:
            self._socket.settimeout(10.0)
        raise AssertionError(f"the server said {data!r}")

    def _take(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                more = self._socket.recv(count - len(data))
            except ConnectionResetError:
                return None
            if not more:
                return None
            data += more
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
