"""permessage-deflate (RFC 7692): negotiation, messages, bombs. Autobahn's 12.x and 13.x."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from ringway.ws_server import wire
from ringway.ws_server.deflate import Deflate, negotiate
from ringway.ws_server.endpoint import Limits
from ringway.ws_server.wire import FIN, TEXT, Fault, Reader, encode_binary, encode_ping, encode_text
from tests.ws_server.both import TAKERS
from tests.ws_server.frames import BINARY, CONTINUATION, PING, close_frame, frame
from tests.ws_server.serving import handshake, serving

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
PLAIN = negotiate("permessage-deflate")
RSV1 = 4


@pytest.fixture(params=TAKERS, autouse=True)
def _each_take(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled common case, and the one in Python."""
    monkeypatch.setattr(wire, "take", request.param)


def deflate(message: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def inflate(payload: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")


@pytest.mark.parametrize(  # 13.1-13.7 are offers with and without window bits and context take-over
    ("offer", "answer"),
    [
        ("permessage-deflate", ANSWER),
        ("permessage-deflate; client_max_window_bits", ANSWER),
        ("permessage-deflate; client_max_window_bits=9", ANSWER),
        ("permessage-deflate; server_max_window_bits=9", ANSWER + "; server_max_window_bits=9"),
        ('permessage-deflate; server_max_window_bits="15"', ANSWER + "; server_max_window_bits=15"),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", ANSWER),
        ("x-webkit-deflate-frame, permessage-deflate", ANSWER),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", ANSWER),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=010", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-bzip2", None),
        ("", None),
        (";,=", None),
    ],
)
def test_negotiation(offer: str, answer: str | None) -> None:
    agreed = negotiate(offer)
    assert (agreed and agreed.answer) == answer


def test_parameters_are_shared_by_connections() -> None:
    assert negotiate("permessage-deflate") is negotiate("permessage-deflate ")


@pytest.mark.parametrize("size", [0, 16, 1000, 60_000])  # 12.1.x
def test_a_compressed_message_is_read(size: int) -> None:
    message = b"lorem ipsum " * (size // 12)
    reader = Reader(inflater=PLAIN)
    assert reader.feed(frame(TEXT, deflate(message), rsv=RSV1)) == [(TEXT, message)]
    assert reader.feed(frame(TEXT, b"plain")) == [(TEXT, b"plain")]
    assert reader.fault is None


def test_fragments_of_a_compressed_message_with_a_ping_between() -> None:
    body = deflate(b"x" * 3000)
    reader = Reader(inflater=PLAIN)
    stream = frame(BINARY, body[:5], fin=False, rsv=RSV1) + frame(PING) + frame(CONTINUATION, body[5:])
    assert reader.feed(stream) == [(PING, b""), (BINARY, b"x" * 3000)]


@pytest.mark.parametrize("opcode", [CONTINUATION, PING], ids=["continuation", "ping"])
def test_rsv1_belongs_to_the_first_frame_of_a_message_alone(opcode: int) -> None:
    reader = Reader(inflater=PLAIN)
    reader.feed(frame(TEXT, deflate(b"a"), fin=False, rsv=RSV1) + frame(opcode, b"", rsv=RSV1))
    assert reader.fault == Fault(1002, "reserved bit set")


def test_a_bomb_is_1009_and_never_unpacked() -> None:
    bomb = deflate(b"\x00" * 50_000_000)
    assert len(bomb) < 65536
    reader = Reader(inflater=PLAIN)
    assert reader.feed(frame(BINARY, bomb, rsv=RSV1)) == []
    assert reader.fault == Fault(1009, "message over 65536 bytes")


def test_exactly_the_limit_is_no_bomb() -> None:
    reader = Reader(1000, PLAIN)
    assert reader.feed(frame(BINARY, deflate(b"x" * 1000), rsv=RSV1)) == [(BINARY, b"x" * 1000)]
    reader.feed(frame(BINARY, deflate(b"x" * 1001), rsv=RSV1))
    assert reader.fault == Fault(1009, "message over 1000 bytes")


def test_corrupt_data_is_1007_and_so_is_text_that_is_not_utf8() -> None:
    for body in (b"\xff\xff\xff", deflate(b"\xff\xfe")):
        reader = Reader(inflater=PLAIN)
        reader.feed(frame(TEXT, body, rsv=RSV1))
        assert reader.fault is not None
        assert reader.fault.code == 1007


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_what_we_compress_can_be_inflated_with_the_agreed_window(bits: int) -> None:
    agreed = negotiate(f"permessage-deflate; server_max_window_bits={bits}")
    assert agreed is not None
    message = b"".join(b"%d," % number for number in range(20_000))
    wire = agreed.encode(FIN | TEXT, message)
    assert wire[0] == 0xC1
    body = wire[4:] if wire[1] == 126 else wire[10:]
    assert zlib.decompressobj(-bits).decompress(body + b"\x00\x00\xff\xff") == message


@pytest.mark.parametrize("make", [encode_text, encode_binary])
@pytest.mark.parametrize("size", [300, 70_000])
def test_a_frame_is_packed_once_for_all_with_the_same_window(make: Callable[[bytes], bytes], size: int) -> None:
    assert PLAIN is not None
    frame = make(b"x" * size)
    packed = PLAIN.pack(frame)
    assert packed[0] == frame[0] | RSV1 << 4
    assert inflate(packed[2:]) == b"x" * size
    assert PLAIN.pack(frame) is packed
    other = negotiate("permessage-deflate; server_max_window_bits=9")
    assert other is not None
    assert other.pack(frame) is not packed


@pytest.mark.parametrize(
    "frame",
    [
        encode_text(b"x" * 200), encode_binary(Random(1).randbytes(500)), encode_text(b"x" * 300) * 2,
        encode_text(b"x" * 100) * 3, encode_ping(bytes(125)) + encode_text(b"x" * 300), b"",
    ],
    ids=["small", "no shorter", "joined", "small ones joined", "a ping first", "nothing"],
)
def test_a_frame_that_is_not_worth_it_or_not_one_message_goes_as_it_is(frame: bytes) -> None:
    assert PLAIN is not None
    assert PLAIN.pack(frame) is frame


def test_a_connection_with_compression_from_end_to_end() -> None:
    limits = Limits(deflate=True)
    with serving(limits=limits) as port:
        client, head = handshake(port.raw(), extra="Sec-WebSocket-Extensions: permessage-deflate\r\n")
        assert f"Sec-WebSocket-Extensions: {ANSWER}" in head
        connection = port.handler.opened[0]
        client.send(frame(TEXT, deflate(b"shrink " * 100), rsv=RSV1))
        assert client.read() == (TEXT, b"shrink " * 100)  # a prebuilt frame goes as it is
        connection.send("shrink " * 100)
        kind, payload = client.read()
        assert kind == TEXT | RSV1 << 4
        assert inflate(payload) == b"shrink " * 100
        connection.send("short")
        assert client.read() == (TEXT, b"short")
        client.send(close_frame(1000))
        client.read_all()
        client.sock.close()


def test_a_client_that_does_not_offer_gets_none() -> None:
    with serving(limits=replace(Limits(), deflate=True)) as port:
        client, head = handshake(port.raw())
        assert "xtensions" not in head
        port.handler.opened[0].send("shrink " * 100)
        assert client.read() == (TEXT, b"shrink " * 100)
        client.goodbye()


def test_no_state_is_kept_per_connection() -> None:
    assert Deflate.__slots__ == ("server_bits", "answer")
