"""Coverage-guided fuzzing of the frame reader and the request parser with atheris, for as long as it is told.

    pip install atheris
    python -m tests.fuzz.fuzz_wire -max_total_time=60

Options are libFuzzer's. Each input is a frame stream cut at a place that its first byte names, read by our reader whole
and cut, and by `websockets`; a second input kind is an HTTP request head. Any difference, or exception, is a crash.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["ringway.ws_server.wire", "ringway.ws_server.handshake"]):
    from ringway.ws_server import handshake, wire
    from ringway.ws_server.deflate import negotiate

from tests.ws_server.test_wire_fuzz import agree, ours

SEEDS = (
    b"\x00\x03\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    b"\x00\x05\x01\x81\x00\x00\x00\x00a\x80\x81\x00\x00\x00\x00b\x88\x82\x00\x00\x00\x00\x03\xe8",
    b"\x00\x00\x82\xfe\x00\x80\x00\x00\x00\x00" + bytes(128),
    b"\x01GET /ws?ticket=x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket",
)


def frames(data: bytes) -> None:
    """Bytes 0 is where to cut; the rest is the stream."""
    at, stream = data[0], data[1:]
    pieces = [piece for piece in (stream[:at], stream[at:]) if piece]
    agree(pieces)
    assert ours(pieces) == ours([stream])
    reader = wire.Reader(1000, negotiate("permessage-deflate"))
    for piece in pieces:
        if not reader.ended:
            for kind, payload in reader.feed(piece):
                assert len(payload) <= 1000
                if kind == wire.CLOSE:
                    wire.parse_close(payload)


def request(data: bytes) -> None:
    """A request head: parsed, checked, answered."""
    parsed = handshake.parse_head(data)
    refusal = parsed if isinstance(parsed, handshake.Refuse) else handshake.check(parsed)
    if refusal is not None:
        assert handshake.refuse_response(refusal).startswith(b"HTTP/1.1 ")
    elif isinstance(parsed, handshake.Handshake):
        assert b"\r\n\r\n" in handshake.accept_response(parsed, deflate=handshake.agree_deflate(parsed))


def one_input(data: bytes) -> None:
    if len(data) > 2:
        (request if data[0] & 1 else frames)(data[1:])


def main() -> None:
    """Runs until libFuzzer's limits; exits with an error at the first crash."""
    for seed in SEEDS:
        one_input(seed)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
