"""RFC 6455 frames, without I/O: bytes in, messages out, and the other way round.

`Reader.feed` parses all complete frames of what one read brought. The messages before a fault are delivered, the fault
stays in `Reader.fault`, and nothing after it is looked at (section 7.1.7). Limits are checked on the header, so an
oversized frame is refused before its payload is buffered.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from struct import pack
from typing import NamedTuple, Protocol

from websockets.speedups import apply_mask

from ringway.core.close_codes import MAX_REASON_BYTES, CloseCode
from ringway.core.errors import InvalidInput

from . import fast

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION = 0x0
FIN, RSV1, RSV23, OPCODE = 0x80, 0x40, 0x30, 0x0F
FIN_TEXT = FIN | TEXT
MASKED = 0x80
MAX_CONTROL_BYTES = 125
MESSAGE_LIMIT = 65536

_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_SHORT_TEXT = tuple(bytes((FIN_TEXT, size)) for size in range(126))
# Section 7.4 and the IANA registry: 1004-1006 and 1015 never travel; 1016-2999 are not assigned.
_REGISTERED = frozenset({*range(1000, 1004), *range(1007, 1015)})
_NO_STATUS = 1005
_Decoder = codecs.getincrementaldecoder("utf-8")

Message = tuple[int, bytes]
"""(opcode, payload): a whole text or binary message, or a control frame."""


class Fault(NamedTuple):
    """Why a stream cannot go on: the close code to send, and a reason for people."""

    code: int
    reason: str


class Inflater(Protocol):
    """What permessage-deflate gives a `Reader`."""

    def inflate(self, payload: bytes, limit: int) -> bytes | None:
        """The message, or None when it would be longer than `limit` bytes. Raises ValueError for corrupt data."""


def python_take(data: bytes, position: int, limit: int, out: list[Message]) -> int:
    """Append the whole unfragmented messages from `position` on to `out`; returns where the first other frame begins.

    What is cheap to recognise is enough: `Reader` reads all that is left. The compiled one takes long and binary too.
    """
    end = len(data)
    short = limit if limit < MAX_CONTROL_BYTES else MAX_CONTROL_BYTES
    while (body := position + 6) <= end and data[position] == FIN_TEXT:
        size = data[position + 1] - MASKED
        stop = body + size
        if not 0 <= size <= short or stop > end:
            break
        payload = apply_mask(data[body:stop], data[position + 2 : body])
        if not (payload.isascii() or _is_utf8(payload)):
            break
        out.append((TEXT, payload))
        position = stop
    return position


take: Callable[[bytes, int, int, list[Message]], int] = fast.compiled.take if fast.compiled else python_take


class Reader:
    """The incoming side of one server connection.

    `limit` bounds a message in bytes, over all its fragments. Text is checked as UTF-8, at each fragment.
    """

    __slots__ = (
        "_compressed",
        "_decoder",
        "_inflater",
        "_kind",
        "_limit",
        "_need",
        "_parts",
        "_tail",
        "ended",
        "fault",
    )

    def __init__(self, limit: int = MESSAGE_LIMIT, inflater: Inflater | None = None) -> None:
        self._limit = limit
        self._inflater = inflater
        self._tail: bytearray | None = None  # the beginning of an incomplete frame
        self._need = 0  # bytes that the tail must reach before it is worth looking at again
        self._kind = 0  # opcode of the fragmented message under way
        self._parts: bytearray | None = None
        self._compressed = False
        self._decoder: codecs.IncrementalDecoder | None = None
        self.fault: Fault | None = None
        self.ended = False  # a close frame or a fault came: what follows is not ours to read

    @property
    def mid_message(self) -> bool:
        """A frame or a fragmented message is under way."""
        return self._tail is not None or self._kind != 0

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes, in order; once `ended` there is nothing more to feed."""
        out: list[Message] = []
        if self._tail is not None:
            self._tail += data
            if len(self._tail) < self._need:
                return out
            data = bytes(self._tail)
            self._tail = None
        position, end = 0, len(data)
        while position < end:
            if self._kind == 0:
                position = take(data, position, self._limit, out)
                if position == end:
                    break
            position = self._frame(data, position, out)
            if position < 0:
                break
        return out

    def _frame(self, data: bytes, position: int, out: list[Message]) -> int:
        """Take one frame of any kind; returns where the next one begins, or -1 to stop."""
        have = len(data) - position
        if have < 2:
            return self._wait(data, position, 2)
        head, size = data[position], data[position + 1]
        if head & OPCODE not in _OPCODES:
            return self._fail(CloseCode.PROTOCOL_ERROR, "unknown opcode")
        if size < MASKED:
            return self._fail(CloseCode.PROTOCOL_ERROR, "frame is not masked")
        size -= MASKED
        body = 6
        if size > MAX_CONTROL_BYTES:
            wide = 2 if size == 126 else 8
            if have < 2 + wide:
                return self._wait(data, position, 2 + wide)
            size = int.from_bytes(data[position + 2 : position + 2 + wide], "big")
            if size < (126 if wide == 2 else 65536):
                return self._fail(CloseCode.PROTOCOL_ERROR, "length is not in its shortest form")
            body = 6 + wide
        if not self._allowed(head, size):
            return -1
        if have < body + size:
            return self._wait(data, position, body + size)
        start = position + body
        stop = start + size
        payload = apply_mask(data[start:stop], data[start - 4 : start])
        return stop if self._accept(head, payload, out) else -1

    def _allowed(self, head: int, size: int) -> bool:
        """The rules that the header alone decides."""
        opcode = head & OPCODE
        if opcode >= CLOSE:
            if size > MAX_CONTROL_BYTES or not head & FIN:
                self._fail(CloseCode.PROTOCOL_ERROR, "control frame is fragmented or over 125 bytes")
        elif size + (len(self._parts) if self._parts is not None else 0) > self._limit:
            self._fail(CloseCode.TOO_BIG, f"message over {self._limit} bytes")
        elif (opcode == CONTINUATION) != (self._kind != 0):
            self._fail(CloseCode.PROTOCOL_ERROR, "continuation out of order")
        if head & RSV23 or (head & RSV1 and (self._inflater is None or opcode not in (TEXT, BINARY))):
            self._fail(CloseCode.PROTOCOL_ERROR, "reserved bit set")
        return self.fault is None

    def _accept(self, head: int, payload: bytes, out: list[Message]) -> bool:
        opcode = head & OPCODE
        if opcode >= CLOSE:
            return self._control(opcode, payload, out)
        if opcode != CONTINUATION:
            self._kind = opcode
            self._compressed = bool(head & RSV1)
        if head & FIN and self._parts is None:
            return self._whole(payload, out)
        return self._fragment(head, payload, out)

    def _whole(self, payload: bytes, out: list[Message]) -> bool:
        """An unfragmented message."""
        kind, self._kind = self._kind, 0
        if self._compressed:
            inflated = self._inflate(payload)
            if inflated is None:
                return False
            payload = inflated
        if kind == TEXT and not (payload.isascii() or _is_utf8(payload)):
            self._fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            return False
        out.append((kind, payload))
        return True

    def _fragment(self, head: int, payload: bytes, out: list[Message]) -> bool:
        if self._parts is None:
            self._parts = bytearray()
            self._decoder = _Decoder() if self._kind == TEXT and not self._compressed else None
        if self._decoder is not None and not self._still_utf8(payload, final=bool(head & FIN)):
            return False
        self._parts += payload
        if not head & FIN:
            return True
        whole, checked = bytes(self._parts), self._decoder is not None
        self._parts = self._decoder = None
        if checked:
            self._kind = 0
            out.append((TEXT, whole))
            return True
        return self._whole(whole, out)

    def _still_utf8(self, payload: bytes, *, final: bool) -> bool:
        """Fail at the fragment that breaks the text, not at the message's end (Autobahn 6.4)."""
        assert self._decoder is not None
        try:
            self._decoder.decode(payload, final)
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text is not UTF-8")
            return False
        return True

    def _inflate(self, payload: bytes) -> bytes | None:
        assert self._inflater is not None
        try:
            inflated = self._inflater.inflate(payload, self._limit)
        except ValueError:
            self._fail(CloseCode.INVALID_DATA, "corrupt compressed data")
            return None
        if inflated is None:
            self._fail(CloseCode.TOO_BIG, f"message over {self._limit} bytes")
        return inflated

    def _control(self, opcode: int, payload: bytes, out: list[Message]) -> bool:
        """Control frames may come between the fragments of a message (section 5.4), a close too."""
        if opcode == CLOSE:
            self.ended = True
            self.fault = close_fault(payload)
            if self.fault is not None:
                return False
        out.append((opcode, payload))
        return not self.ended

    def _wait(self, data: bytes, position: int, need: int) -> int:
        self._tail = bytearray(data[position:])
        self._need = need
        return -1

    def _fail(self, code: CloseCode, reason: str) -> int:
        if self.fault is None:
            self.fault = Fault(code, reason)
            self.ended = True
        return -1


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def close_fault(payload: bytes) -> Fault | None:
    """What is wrong with the payload of a close frame (section 5.5.1), if anything."""
    if not payload:
        return None
    if len(payload) == 1:
        return Fault(CloseCode.PROTOCOL_ERROR, "close frame of one byte")
    if not _is_utf8(payload[2:]):
        return Fault(CloseCode.INVALID_DATA, "close reason is not UTF-8")
    if not is_valid_close_code(int.from_bytes(payload[:2], "big")):
        return Fault(CloseCode.PROTOCOL_ERROR, "close code must not travel")
    return None


def is_valid_close_code(code: int) -> bool:
    """Whether the code may travel in a close frame."""
    return code in _REGISTERED or 3000 <= code < 5000


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame that `Reader` let through; 1005 stands for none."""
    if not payload:
        return _NO_STATUS, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def encode_text(payload: bytes) -> bytes:
    """The wire form of a text message (UTF-8), to be sent as it is to any number of connections."""
    size = len(payload)
    return _SHORT_TEXT[size] + payload if size < 126 else encode(FIN_TEXT, payload)


def encode_binary(payload: bytes) -> bytes:
    """The wire form of a binary message."""
    return encode(FIN | BINARY, payload)


def encode_ping(payload: bytes = b"") -> bytes:
    """A ping of at most 125 bytes."""
    return encode(FIN | PING, payload)


def encode_pong(payload: bytes) -> bytes:
    """The answer to a ping: the same payload (section 5.5.3)."""
    return encode(FIN | PONG, payload)


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame; 1005 gives one without a code. A reason over 123 bytes is cut between characters.

    What of it is no Unicode text (half of a surrogate pair) is replaced: a goodbye is not to fail for its reason.
    """
    if code == _NO_STATUS:
        return encode(FIN | CLOSE, b"")
    cut = reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    return encode(FIN | CLOSE, pack("!H", code) + cut)


def encode_own_close(code: int, reason: str = "") -> bytes:
    """As `encode_close`, for a close that is not the answer to one. Raises InvalidInput: the code must not travel."""
    if not is_valid_close_code(code):
        rule = "must be a close code that may travel: 1000 to 1003, 1007 to 1014, 3000 to 4999 (RFC 6455, section 7.4)"
        raise InvalidInput("code", code, rule, "use 1000, or 4000 to 4999 for codes of your own")
    return encode_close(code, reason)


def encode(head: int, payload: bytes) -> bytes:
    """One unmasked frame; `head` is the first byte (FIN, RSV and opcode)."""
    size = len(payload)
    if size < 126:
        return pack("!BB", head, size) + payload
    if size < 65536:
        return pack("!BBH", head, 126, size) + payload
    return pack("!BBQ", head, 127, size) + payload
