"""A client's frames, with every bit free to be wrong."""

from __future__ import annotations

from struct import pack

from websockets.speedups import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"  # the one of RFC 6455, section 5.7


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    mask: bytes = MASK,
    width: int | None = None,
) -> bytes:
    """`rsv` is the three bits as a number (4 = RSV1); `width` is 0, 2 or 8 bytes of length, when not the shortest."""
    size = len(payload)
    if width is None:
        width = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[width]
    head = pack("!BB", fin << 7 | rsv << 4 | opcode, masked << 7 | short) + (
        size.to_bytes(width, "big") if width else b""
    )
    return head + mask + apply_mask(payload, mask) if masked else head + payload


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else pack("!H", code) + reason)
