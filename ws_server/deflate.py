"""permessage-deflate (RFC 7692), off unless configured.

Always without context takeover, in both directions: a connection then keeps no zlib state (up to 300 KiB with it; some
190 KiB exist while one message is packed or unpacked), and a `Deflate` has no state at all, so connections share it.
A frame for many is packed once for all with the same parameters.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache

from .wire import BINARY, FIN, RSV1, TEXT, encode

NAME = "permessage-deflate"
WORTH_BYTES = 256  # a frame below it goes out as it is
_MESSAGES = frozenset({FIN | TEXT, FIN | BINARY})
_BODIES = {126: 4, 127: 10}  # where the payload of a frame that long begins
_FAN_OUTS = 4  # frames that are kept packed: a fan-out comes with one and the same, for few sets of parameters
_TAIL = b"\x00\x00\xff\xff"  # section 7.2.1: taken off the end of each compressed message
_SERVER_BITS, _CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"
_NO_TAKEOVER = frozenset({"server_no_context_takeover", "client_no_context_takeover"})


@dataclass(frozen=True, slots=True)
class Deflate:
    """One agreed set of parameters; `answer` is the value of the response's Sec-WebSocket-Extensions."""

    server_bits: int
    answer: str

    def inflate(self, payload: bytes, limit: int) -> bytes | None:
        """The message, or None when it would be longer than `limit`; never makes more than `limit` + 1 bytes."""
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            message = inflater.decompress(payload + _TAIL, limit + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        return message if len(message) <= limit else None

    def pack(self, wire: bytes) -> bytes:
        """A frame as it leaves where this was agreed on: compressed if it is a message that gets shorter by it."""
        return wire if len(wire) < WORTH_BYTES else _packed(self, wire)

    def encode(self, head: int, payload: bytes) -> bytes:
        """One compressed frame."""
        deflater = zlib.compressobj(wbits=-self.server_bits, memLevel=5)
        body = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
        return encode(head | RSV1, body.removesuffix(_TAIL))


def negotiate(header: str) -> Deflate | None:
    """The first offer in a Sec-WebSocket-Extensions header that can be accepted; None declines them all."""
    for offer in header.split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name == NAME:
            agreed = _accept(parameters)
            if agreed is not None:
                return agreed
    return None


def _accept(parameters: list[str]) -> Deflate | None:
    """Section 7.1: an unknown, repeated or invalid parameter declines the offer."""
    seen: set[str] = set()
    server_bits = zlib.MAX_WBITS
    for parameter in parameters:
        name, given, value = parameter.partition("=")
        value = value.strip().strip('"')
        name = name.strip()
        if name in seen or not _is_valid(name, bool(given), value):
            return None
        seen.add(name)
        if name == _SERVER_BITS:
            server_bits = int(value)
    if server_bits == 8:  # zlib cannot make a raw stream with a window of 256 bytes
        return None
    return _agreed(server_bits, _SERVER_BITS in seen)


def _is_valid(name: str, given: bool, value: str) -> bool:
    if name in _NO_TAKEOVER:
        return not given
    if name not in (_SERVER_BITS, _CLIENT_BITS):
        return False
    if not given:
        return name == _CLIENT_BITS
    return value in {str(bits) for bits in range(8, 16)}


@lru_cache(maxsize=_FAN_OUTS)
def _packed(agreed: Deflate, wire: bytes) -> bytes:
    body = _BODIES.get(wire[1], 0)
    if wire[0] not in _MESSAGES or len(wire) != body + int.from_bytes(wire[2:body], "big"):
        return wire  # several frames joined
    packed = agreed.encode(wire[0], wire[body:])
    return packed if len(packed) < len(wire) else wire


@lru_cache(maxsize=32)
def _agreed(server_bits: int, server_limits: bool) -> Deflate:
    parts = [NAME, "server_no_context_takeover", "client_no_context_takeover"]
    if server_limits:
        parts.append(f"{_SERVER_BITS}={server_bits}")
    return Deflate(server_bits, "; ".join(parts))
