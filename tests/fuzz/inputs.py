"""What one input of the fuzzers does: any difference between two readers, or any exception, is a failure.

Byte 0 says what it is: a stream of frames, cut at the place that byte 1 names, an HTTP request head, or the text of a
client's frame. Streams are read whole and cut, compiled and in Python, and by `websockets`.
"""

from __future__ import annotations

from ringway.core.errors import InvalidFrame
from ringway.core.frames import parse_client_frame
from ringway.ws_server import fast, handshake, wire
from ringway.ws_server.deflate import negotiate
from tests.ws_server.test_wire_fuzz import agree, ours

REQUESTS = handshake.Requests()
SEEDS = (
    b"\x00\x03\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"\x00\x05\x01\x81\x00\x00\x00\x00a\x80\x81\x00\x00\x00\x00b\x88\x82\x00\x00\x00\x00\x03\xe8",
    b"\x00\x00\x82\xfe\x00\x80\x00\x00\x00\x00" + bytes(128),
    b"\x00\x00\x82\xff\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00" + bytes(256),
    b"\x00\x07\x81\x82\x00\x00\x00\x00\xc3\xa4\x81\x81\x00\x00\x00\x00\xff",
    b"\x01GET /ws?ticket=x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket",
    b'\x02{"t":"send","id":"1","to":"bob","body":' + b"[" * 300 + b"]" * 300 + b"}",
)
TAKES = (fast.compiled.take, wire.python_take) if fast.compiled else (wire.python_take,)


def frames(data: bytes) -> None:
    at, stream = data[0], data[1:]
    pieces = [piece for piece in (stream[:at], stream[at:]) if piece]
    seen = []
    for wire.take in TAKES:
        agree(pieces)
        seen += [ours(pieces), ours([stream]), compressed(pieces)]
    assert seen[:3] == seen[-3:]
    assert seen[0] == seen[1]


def compressed(pieces: list[bytes]) -> list[wire.Message]:
    """The same on a connection that has agreed on permessage-deflate; must only not fail."""
    reader = wire.Reader(1000, negotiate("permessage-deflate"))
    messages: list[wire.Message] = []
    for piece in pieces:
        if not reader.ended:
            messages += reader.feed(piece)
    for kind, payload in messages:
        assert len(payload) <= 1000
        if kind == wire.CLOSE:
            wire.parse_close(payload)
    return messages


def request(data: bytes) -> None:
    parsed = handshake.parse_head(data)
    refusal = parsed if isinstance(parsed, handshake.Refuse) else handshake.check(parsed)
    for _ in range(2):
        assert REQUESTS.read(data) == (refusal or parsed)  # the second time its headers are known
    if refusal is not None:
        assert handshake.refuse_response(refusal).startswith(b"HTTP/1.1 ")
    elif isinstance(parsed, handshake.Handshake):
        assert b"\r\n\r\n" in handshake.accept_response(parsed, deflate=handshake.agree_deflate(parsed))


def client_frame(data: bytes) -> None:
    """A frame, or a refusal that can be said."""
    said = ""
    try:
        parse_client_frame(data)
    except InvalidFrame as error:
        said = str(error)
    assert len(said) < 500


def one_input(data: bytes) -> None:
    if len(data) > 2:
        (frames, request, client_frame)[data[0] % 3](data[1:])
