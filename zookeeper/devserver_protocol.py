"""ZooKeeper's wire format, as far as kazoo speaks it: a client's bytes to values, no socket.

Source of the layout: `zookeeper.jute` and `MultiTransactionRecord` of Apache ZooKeeper 3.8. Every packet is a
4-byte big-endian length and that many bytes; strings and buffers carry their own length, -1 meaning null.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

_INT = struct.Struct("!i")
_LONG = struct.Struct("!q")
_BOOL = struct.Struct("!?")

WATCH_XID, PING_XID, AUTH_XID, SET_WATCHES_XID = -1, -2, -4, -8
PASSWORD_BYTES = 16
# jute.maxbuffer's default plus room for the headers; a longer packet closes the connection, as the real server does.
MAX_PACKET = 0xFFFFF + 1024
_EPHEMERAL, _SEQUENCE = 1, 2
_KNOWN_FLAGS = _EPHEMERAL | _SEQUENCE


class Op(IntEnum):
    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    AUTH = 100
    SET_WATCHES = 101
    CLOSE = -11


class Code(IntEnum):
    OK = 0
    RUNTIME_INCONSISTENCY = -2
    UNIMPLEMENTED = -6
    BAD_ARGUMENTS = -8
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    INVALID_ACL = -114
    AUTH_FAILED = -115


class EventType(IntEnum):
    CREATED = 1
    DELETED = 2
    CHANGED = 3
    CHILD = 4


class Malformed(ValueError):
    """The bytes are no request of the protocol; the only answer is to close the connection."""


class Acl(NamedTuple):
    perms: int
    scheme: str
    id: str


@dataclass(frozen=True, slots=True)
class Create:
    path: str
    data: bytes | None
    acl: tuple[Acl, ...]
    flags: int
    with_stat: bool

    @property
    def ephemeral(self) -> bool:
        return bool(self.flags & _EPHEMERAL)

    @property
    def sequence(self) -> bool:
        return bool(self.flags & _SEQUENCE)

    @property
    def known_mode(self) -> bool:
        return self.flags & ~_KNOWN_FLAGS == 0


@dataclass(frozen=True, slots=True)
class Delete:
    path: str
    version: int


@dataclass(frozen=True, slots=True)
class SetData:
    path: str
    data: bytes | None
    version: int


@dataclass(frozen=True, slots=True)
class SetAcl:
    path: str
    acl: tuple[Acl, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Check:
    path: str
    version: int


Write = Create | Delete | SetData | SetAcl | Check


@dataclass(frozen=True, slots=True)
class Connect:
    last_zxid: int
    timeout_ms: int
    session_id: int
    password: bytes


class Reader:
    """Takes values off the front of one packet; anything missing raises Malformed."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        try:
            values = layout.unpack_from(self._data, self._at)
        except struct.error as error:
            raise Malformed(f"packet of {len(self._data)} bytes ends inside a field: {error}") from error
        self._at += layout.size
        return values

    def int32(self) -> int:
        return self._unpack(_INT)[0]

    def int64(self) -> int:
        return self._unpack(_LONG)[0]

    def flag(self) -> bool:
        return bool(self._unpack(_BOOL)[0])

    def buffer(self) -> bytes | None:
        length = self.int32()
        if length < 0:
            return None
        end = self._at + length
        if end > len(self._data):
            raise Malformed(f"a field of {length} bytes in a packet of {len(self._data)}")
        value, self._at = self._data[self._at : end], end
        return value

    def string(self) -> str:
        """Null reads as "": no path, scheme or id may be empty, so both are refused alike."""
        try:
            return (self.buffer() or b"").decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"a string is not UTF-8: {error}") from error

    def strings(self) -> list[str]:
        return [self.string() for _ in range(self.int32())]

    def acl(self) -> tuple[Acl, ...]:
        return tuple(Acl(self.int32(), self.string(), self.string()) for _ in range(self.int32()))


def read_connect(packet: bytes) -> Connect:
    reader = Reader(packet)
    reader.int32()  # the protocol's version, always 0
    last_zxid, timeout_ms, session_id = reader.int64(), reader.int32(), reader.int64()
    return Connect(last_zxid, timeout_ms, session_id, reader.buffer() or b"")


def read_write(op: int, reader: Reader) -> Write:
    """The body of one write request, alone or inside a multi."""
    if op in (Op.CREATE, Op.CREATE2):
        return Create(reader.string(), reader.buffer(), reader.acl(), reader.int32(), op == Op.CREATE2)
    if op == Op.DELETE:
        return Delete(reader.string(), reader.int32())
    if op == Op.SET_DATA:
        return SetData(reader.string(), reader.buffer(), reader.int32())
    if op == Op.SET_ACL:
        return SetAcl(reader.string(), reader.acl(), reader.int32())
    if op == Op.CHECK:
        return Check(reader.string(), reader.int32())
    raise Malformed(f"operation {op} is no write")


def read_multi(reader: Reader) -> list[tuple[int, Write]]:
    writes: list[tuple[int, Write]] = []
    while True:
        op, done, _ = reader.int32(), reader.flag(), reader.int32()
        if done:
            return writes
        writes.append((op, read_write(op, reader)))
