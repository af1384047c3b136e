"""Every case of Autobahn|Testsuite's fuzzingclient, by its number, against a real acceptor over TCP.

Two things differ from the suite's own run. Messages over the 64 KiB that a node takes by default are answered 1009;
they are echoed here by an acceptor whose limit is raised, and the 1009 is a test of its own. And 12 and 13 send a few
messages of each size instead of a thousand.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain

import gevent
import pytest

from ringway.ws_server import endpoint, wire
from ringway.ws_server.connection import Connection
from ringway.ws_server.endpoint import Limits
from tests.ws_server import autobahn, autobahn_utf8
from tests.ws_server.autobahn import CLIENT_CLOSES, NORMAL, NUMBERS, TOO_BIG, Case, pieces
from tests.ws_server.both import POLLERS, TAKERS
from tests.ws_server.frames import BINARY, CLOSE, CONTINUATION, TEXT, close_frame, frame
from tests.ws_server.serving import Client, Echo, handshake, serving

LIMIT = Limits().message_bytes
RAISED = Limits(message_bytes=16 << 20, queue_bytes=64 << 20)
COMPRESSING = Limits(message_bytes=1 << 20, queue_bytes=64 << 20, deflate=True)
ROUND_TRIPS = 1000
COMPRESSED_MESSAGES = 8
RSV1 = 4
CASES = {case.number: case for case in chain(
    autobahn.framing(), autobahn.pings(), autobahn.reserved_bits(), autobahn.opcodes(), autobahn.fragments(),
    autobahn_utf8.messages(), autobahn_utf8.fail_fast(), autobahn_utf8.sequences(), autobahn.closes(),
    autobahn.auto_fragments())}
LIMIT_CASES = {case.number: case for case in autobahn.limits()}
ROUND_TRIP_CASES = {number: (opcode, payload) for number, opcode, payload in autobahn.round_trips()}


@pytest.fixture(params=[pytest.param((POLLERS[n], TAKERS[n]), id=name, marks=POLLERS[n].marks)
                        for n, name in enumerate(("compiled", "python"))])
def hot_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's hot path as it is compiled, and as it is in Python."""
    poller, take = request.param
    monkeypatch.setattr(endpoint, "make_poller", poller.values[0])
    monkeypatch.setattr(wire, "take", take.values[0])


on_both_hot_paths = pytest.mark.usefixtures("hot_path")


def play(client: Client, case: Case) -> None:
    """Send its steps and read the answers; then nothing but the close frame of its code, and the end of the stream."""
    for step in case.steps:
        send(client, step.data, case.chop)
        assert [client.read() for _ in step.answers] == list(step.answers)
    if case.code == NORMAL and not case.closes:
        client.send(CLIENT_CLOSES)
    kind, payload = client.read()
    assert (kind, int.from_bytes(payload[:2], "big") or autobahn.NO_STATUS) == (CLOSE, case.code)
    with suppress(OSError):  # it has ended the connection already
        client.send(close_frame(case.code))
    assert rest(client) == []
    client.sock.close()


def send(client: Client, data: bytes, chop: int | None) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not hear all of what it refuses
        for part in pieces(data, chop or len(data)):
            client.send(part)
            if chop is not None:
                gevent.sleep(0)  # the server reads what there is


def rest(client: Client) -> list[autobahn.Frame]:
    try:
        return client.read_all()
    except ConnectionResetError:  # it closed while we still sent
        return []


def test_every_case_of_the_suite_is_in_these_tests() -> None:
    here = [*CASES, *LIMIT_CASES, *ROUND_TRIP_CASES, *COMPRESSION]
    assert len(NUMBERS) == 517
    assert sorted(here) == sorted(NUMBERS)


@on_both_hot_paths
@pytest.mark.parametrize("number", CASES)
def test_case(number: str) -> None:
    with serving() as port:
        play(port.connect(), CASES[number])
        assert port.handler.closed


@on_both_hot_paths
@pytest.mark.parametrize("number", LIMIT_CASES)
def test_a_large_message_is_echoed_where_the_limit_allows_it(number: str) -> None:
    with serving(limits=RAISED) as port:
        play(port.connect(), LIMIT_CASES[number])


@pytest.mark.parametrize(
    "number", [number for number, case in LIMIT_CASES.items() if len(case.steps[0].answers[0][1]) > LIMIT])
def test_a_message_over_the_default_limit_is_answered_1009(number: str) -> None:
    case = LIMIT_CASES[number]
    # Two fragments over the limit say it as well as 4 MiB of them: nothing after the refusal is read.
    enough = case.steps[0].data[: 2 * LIMIT + (LIMIT // 64) * 14]
    with serving() as port:
        play(port.connect(), Case(number, (autobahn.Step(enough),), TOO_BIG, case.chop))
        assert port.handler.received == []


@on_both_hot_paths
@pytest.mark.parametrize("number", ROUND_TRIP_CASES)
def test_a_thousand_round_trips(number: str) -> None:
    opcode, payload = ROUND_TRIP_CASES[number]
    data = frame(opcode, payload)
    with serving() as port:
        client = port.connect()
        for _ in range(ROUND_TRIPS):
            client.send(data)
            assert client.read() == (opcode, payload)
        assert [kind for kind, _ in client.goodbye()] == [CLOSE]


# -- 12 and 13: permessage-deflate


SIZES = [(size, 0) for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)]
SIZES += [(size, 256) for size in (8192, 16384, 32768, 65536, 131072)]
SIZES += [(131072, size) for size in (1024, 4096, 32768)]
_OFFER = "permessage-deflate; client_no_context_takeover; client_max_window_bits"
OFFERS = (
    _OFFER,
    f"{_OFFER}; server_no_context_takeover",
    f"{_OFFER}; server_max_window_bits=9",
    f"{_OFFER}; server_max_window_bits=15",
    f"{_OFFER}; server_no_context_takeover; server_max_window_bits=9",
    f"{_OFFER}; server_no_context_takeover; server_max_window_bits=15",
    f"{_OFFER}; server_no_context_takeover; server_max_window_bits=9, {_OFFER}; server_no_context_takeover, {_OFFER}",
)
WINDOWS = (15, 15, 9, 15, 9, 15, 9)


@dataclass(frozen=True)
class Compressed:
    """A case of 12 or 13: messages of `size` bytes of the data, in fragments of `fragment` bytes; 0: in one frame."""

    data: str
    size: int
    fragment: int
    offer: str = _OFFER
    window: int = 15


COMPRESSION = {
    **{f"12.{k}.{n}": Compressed(data, *size) for k, data in enumerate(("json", "picture", "prose", "html", "pdf"), 1)
       for n, size in enumerate(SIZES, 1)},
    **{f"13.{k}.{n}": Compressed("json", *size, offer, window)
       for k, (offer, window) in enumerate(zip(OFFERS, WINDOWS, strict=True), 1) for n, size in enumerate(SIZES, 1)},
}


@cache
def material(data: str) -> bytes:
    """About 300 kB of data like the suite's file."""
    chance = random.Random(data)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 11))) for _ in range(2000)]
    if data == "picture":  # a smooth slope with noise
        return bytes((x // 3 + y // 5 + chance.randint(0, 9)) & 255 for y in range(512) for x in range(512))
    if data == "pdf":  # compressed already
        return b"%PDF-1.4\n" + chance.randbytes(300_000)
    if data == "prose":
        return " ".join(chance.choices(words, k=42_000)).replace("a", "ä").encode("latin-1")
    mould = '{{"id": {}, "name": "{}"}},\n' if data == "json" else '<li id="{}"><a href="#">{}</a></li>\n'
    return "".join(mould.format(n, chance.choice(words)) for n in range(9000)).encode()


def messages(case: Compressed) -> Iterator[bytes]:
    data = material(case.data) * 4
    for n in range(COMPRESSED_MESSAGES):
        yield data[n * case.size : (n + 1) * case.size]


class Mirror(Echo):
    """Echoes by the way that compresses."""

    def on_text(self, connection: Connection, payload: bytes) -> None:
        connection.send(payload)

    def on_binary(self, connection: Connection, payload: bytes) -> None:
        connection.send(payload, binary=True)


def compressed(opcode: int, payload: bytes, size: int) -> bytes:
    """One compressed message; RSV1 is set on its first frame only (RFC 7692, section 6.1)."""
    compressor = zlib.compressobj(wbits=-15)
    body = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    parts = pieces(body, size or len(body))
    first = frame(opcode, parts[0], fin=len(parts) == 1, rsv=RSV1)
    return first + b"".join(
        frame(CONTINUATION, part, fin=n == len(parts) - 1) for n, part in enumerate(parts) if n)


@pytest.mark.parametrize("number", COMPRESSION)
def test_compressed_messages_come_back(number: str) -> None:
    case = COMPRESSION[number]
    opcode = TEXT if case.data in ("json", "html") else BINARY
    with serving(Mirror(), limits=COMPRESSING) as port:
        client, head = handshake(port.raw(), extra=f"Sec-WebSocket-Extensions: {case.offer}\r\n")
        assert ("server_max_window_bits=9" in head) == (case.window == 9)
        for message in messages(case):
            client.send(compressed(opcode, message, case.fragment))
            kind, payload = client.read()
            if kind & RSV1 << 4:
                payload = zlib.decompressobj(-case.window).decompress(payload + b"\x00\x00\xff\xff")
            assert (kind & 0x0F, payload) == (opcode, message)
        assert [kind for kind, _ in client.goodbye()] == [CLOSE]


@pytest.mark.parametrize("number", [number for number, case in COMPRESSION.items() if case.size > LIMIT])
def test_a_compressed_message_over_the_default_limit_is_answered_1009(number: str) -> None:
    case = COMPRESSION[number]
    with serving(Mirror(), limits=Limits(deflate=True)) as port:
        client, _ = handshake(port.raw(), extra=f"Sec-WebSocket-Extensions: {case.offer}\r\n")
        data = compressed(BINARY, next(messages(case)), case.fragment)
        play(client, Case(number, (autobahn.Step(data),), TOO_BIG))
