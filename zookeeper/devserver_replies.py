"""ZooKeeper's wire format, the other direction: what the development server answers, as bytes."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from .devserver_protocol import WATCH_XID, Acl, Code, EventType

_INT = struct.Struct("!i")
_BOOL = struct.Struct("!?")
_REPLY_HEADER = struct.Struct("!iqi")
_MULTI_HEADER = struct.Struct("!i?i")
_STAT = struct.Struct("!qqqqiiiqiiq")
_WATCH_EVENT = struct.Struct("!iqiii")
_CONNECT_REPLY = struct.Struct("!iiq")
_SYNC_CONNECTED = 3


class Stat(NamedTuple):
    """The fields of a znode's stat in the order of the wire."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int

    def to_bytes(self) -> bytes:
        return _STAT.pack(*self)


def packet(body: bytes) -> bytes:
    return _INT.pack(len(body)) + body


def reply(xid: int, zxid: int, code: int = Code.OK, body: bytes = b"") -> bytes:
    return packet(_REPLY_HEADER.pack(xid, zxid, code) + body)


def connect_reply(timeout_ms: int, session_id: int, password: bytes) -> bytes:
    """`timeout_ms` 0 tells the client that its session has expired."""
    return packet(_CONNECT_REPLY.pack(0, timeout_ms, session_id) + buffer(password) + _BOOL.pack(False))


def watch_event(event: EventType, path: str) -> bytes:
    return packet(_WATCH_EVENT.pack(WATCH_XID, -1, Code.OK, event, _SYNC_CONNECTED) + string(path))


def multi_reply(results: Iterable[tuple[int, bytes]]) -> bytes:
    done = [_MULTI_HEADER.pack(op, False, Code.OK) + body for op, body in results]
    return b"".join(done) + _MULTI_HEADER.pack(-1, True, -1)


def multi_failure(count: int, failed: int, code: int) -> bytes:
    """Operations before the failed one are OK (rolled back), those after it were never tried."""
    codes = [Code.OK] * failed + [code] + [Code.RUNTIME_INCONSISTENCY] * (count - failed - 1)
    errors = [_MULTI_HEADER.pack(-1, False, each) + _INT.pack(each) for each in codes]
    return b"".join(errors) + _MULTI_HEADER.pack(-1, True, -1)


def buffer(value: bytes | None) -> bytes:
    return _INT.pack(-1) if value is None else _INT.pack(len(value)) + value


def string(value: str) -> bytes:
    return buffer(value.encode())


def strings(values: Iterable[str]) -> bytes:
    encoded = [string(value) for value in values]
    return _INT.pack(len(encoded)) + b"".join(encoded)


def acl(entries: Iterable[Acl]) -> bytes:
    encoded = [_INT.pack(entry.perms) + string(entry.scheme) + string(entry.id) for entry in entries]
    return _INT.pack(len(encoded)) + b"".join(encoded)
