"""Our reader against `websockets`' sans-I/O protocol: generated streams, cut anywhere, must get the same verdict.

`RINGWAY_FUZZ_STREAMS` says how many (100,000 unless told; `make fuzz` reads a million). Where the two differ on
purpose, `agree` says so.
"""

from __future__ import annotations

import logging
import os
from codecs import getincrementaldecoder
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from ringway.ws_server import wire
from ringway.ws_server.wire import Message, Reader
from tests.ws_server.both import TAKERS
from tests.ws_server.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

STREAMS = int(os.environ.get("RINGWAY_FUZZ_STREAMS", "100000"))
SEED = int(os.environ.get("RINGWAY_FUZZ_SEED", "6455"))
REPORT = 50_000
LIMIT = 400
PADDING = b"\x00" * (LIMIT + 16)

_quiet = logging.getLogger("tests.fuzz.quiet")
_quiet.setLevel(logging.CRITICAL)
_quiet.propagate = False

# (messages, verdict): a close code, or None while the stream may go on
Verdict = tuple[list[Message], int | None]


def ours(pieces: list[bytes]) -> tuple[Verdict, str]:
    reader = Reader(LIMIT)
    messages: list[Message] = []
    for piece in pieces:
        if not reader.ended:
            messages += reader.feed(piece)
    verdict = None if reader.fault is None else reader.fault.code
    return (messages, verdict), "" if reader.fault is None else reader.fault.reason


class Reference:
    """`websockets`' protocol, with what its I/O layer does on top: messages of fragments, and their UTF-8."""

    def __init__(self) -> None:
        self.protocol = Protocol(SERVER, state=OPEN, max_size=LIMIT, logger=_quiet)
        self.messages: list[Message] = []
        self.not_utf8 = False
        self._parts: list[bytes] = []
        self._kind = 0
        self._decoder = getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            assert isinstance(event, Frame)
            if self.not_utf8:
                return
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._data(event)
            else:
                self.messages.append((int(event.opcode), bytes(event.data)))

    def _data(self, event: Frame) -> None:
        if event.opcode is not Opcode.CONT:
            self._kind, self._parts = int(event.opcode), []
            self._decoder.reset()
        self._parts.append(bytes(event.data))
        if self._kind == TEXT:
            try:
                self._decoder.decode(bytes(event.data), event.fin)
            except UnicodeDecodeError:
                self.not_utf8 = True
                return
        if event.fin:
            self.messages.append((self._kind, b"".join(self._parts)))

    @property
    def verdict(self) -> int | None:
        if self.not_utf8:
            return 1007
        if self.protocol.parser_exc is None:
            return None
        assert self.protocol.close_sent is not None
        return int(self.protocol.close_sent.code)


def theirs(pieces: list[bytes], *, pad: bool) -> tuple[Verdict, str]:
    """`pad`: it looks at a frame's bits only after its payload, so give it one."""
    reference = Reference()
    for piece in [*pieces, PADDING] if pad else pieces:
        reference.feed(piece)
        if reference.verdict is not None:
            break
    return (reference.messages, reference.verdict), str(reference.protocol.parser_exc or "")


def agree(pieces: list[bytes]) -> str:
    """How the two agree; AssertionError when they do not."""
    (messages, verdict), reason = ours(pieces)
    (expected, code), text = theirs(pieces, pad=verdict is not None)
    if (messages, verdict) == (expected, code):
        return "equal"
    stream = b"".join(pieces)
    further, common = messages[len(expected) :], messages[: len(expected)]
    not_shortest = reason == "length is not in its shortest form"
    if code == 1009 and common == expected and (further or (verdict != 1009 and not not_shortest)):
        return "ping inside a large message"  # websockets counts it towards the message around it
    if not_shortest:  # section 5.2 says MUST; websockets reads it all the same
        assert messages == expected[: len(messages)], stream
        return "shortest length"
    if text.endswith("incomplete fragmented message"):  # section 5.4 lets a close come between fragments
        assert (messages[:-1], messages[-1][0], verdict) == (expected, CLOSE, None), stream
        return "close between fragments"
    raise AssertionError(f"ours {messages} {verdict} {reason!r}, theirs {expected} {code} {text!r}: {stream.hex()}")


# -- generated streams: mostly right, since random bytes end at the first frame

TEXTS = [b"", b"hello", "ünï¢ode €".encode(), "𝄞".encode() * 20, b"x" * 125, b"x" * 126, b"x" * 390, "é".encode() * 200]
BROKEN = [b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok\xff", b"\xe2\x82"]
CODES = [0, 999, 1000, 1001, 1004, 1005, 1006, 1007, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535]


def payload(random: Random) -> bytes:
    luck = random.random()
    if luck < 0.8:
        return random.choice(TEXTS)
    if luck < 0.9:
        return random.choice(BROKEN)
    return random.randbytes(random.choice((1, 2, 3, 60, 126, 127, 300, LIMIT, LIMIT + 1)))


def one_frame(random: Random, inside: bool) -> tuple[bytes, bool]:
    """A frame, and whether a fragmented message is under way after it."""
    odd = random.random() < 0.02
    opcode = random.choices((CONTINUATION, TEXT, BINARY, PING, PONG, CLOSE), (8 if inside else 1, 6, 4, 4, 2, 1))[0]
    if inside and opcode in (TEXT, BINARY) and random.random() < 0.9:
        opcode = CONTINUATION
    if not inside and opcode == CONTINUATION and random.random() < 0.8:
        opcode = TEXT
    fin = random.random() < 0.6 or (opcode >= CLOSE and random.random() < 0.98)
    data = payload(random)
    if opcode >= CLOSE:
        data = data[: random.choice((0, 1, 4, 60, 125, 125, 125, 126))]
    if opcode == CLOSE and random.random() < 0.8:
        data = random.choice(CODES).to_bytes(2, "big") + data[:100]
    made = frame(
        random.randrange(16) if odd and random.random() < 0.4 else opcode,
        data,
        fin=fin,
        rsv=random.randrange(8) if odd and random.random() < 0.4 else 0,
        masked=not (odd and random.random() < 0.3),
        mask=random.randbytes(4),
        width=random.choice((2, 8)) if odd and random.random() < 0.3 else None,
    )
    return made, inside if opcode >= CLOSE else not fin


def generate(random: Random) -> bytes:
    frames: list[bytes] = []
    inside = False
    for _ in range(random.randrange(1, 9)):
        made, inside = one_frame(random, inside)
        frames.append(made)
    stream = b"".join(frames)
    luck = random.random()
    if luck < 0.1 and stream:
        at = random.randrange(len(stream))
        return stream[:at] + random.randbytes(1) + stream[at + 1 :]
    if luck < 0.2:
        return stream[: random.randrange(len(stream) + 1)]
    return stream + random.randbytes(12) if luck < 0.23 else stream


def cut(random: Random, stream: bytes) -> list[bytes]:
    marks = sorted(random.randrange(len(stream) + 1) for _ in range(random.choice((0, 0, 1, 2, 5))))
    edges = [0, *marks, len(stream)]
    return [stream[start:end] for start, end in pairwise(edges) if end > start]


@pytest.fixture(params=TAKERS, autouse=True)
def _each_take(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled common case, and the one in Python."""
    monkeypatch.setattr(wire, "take", request.param)


@pytest.mark.timeout(1800)
def test_generated_streams_get_the_same_verdict_from_both() -> None:
    random = Random(SEED)
    outcomes: Counter[str] = Counter()
    for number in range(STREAMS):
        outcomes[agree(cut(random, generate(random)))] += 1
        if not number % REPORT:
            print(f"{number} streams agree", flush=True)
    print(f"{STREAMS} streams, seed {SEED}: {dict(outcomes)}")
    assert outcomes["equal"] > STREAMS * 0.9


def test_any_cut_gives_the_same() -> None:
    random = Random(SEED + 1)
    for _ in range(STREAMS // 20):
        stream = generate(random)
        whole = ours([stream])
        assert ours([stream[at : at + 1] for at in range(len(stream))]) == whole
        assert ours(cut(random, stream)) == whole
