"""The cases of Autobahn|Testsuite's fuzzingclient (crossbario/autobahn-testsuite, autobahntestsuite/case), as data.

Numbers, bytes and verdicts are the suite's. What is ours: a wait for an answer where it waits a second, fewer messages
in 12 and 13 (see test_autobahn.py), and test data of the same nature as its files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import pack

from tests.ws_server.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame

Frame = tuple[int, bytes]
NORMAL, PROTOCOL_ERROR, INVALID_DATA, TOO_BIG = 1000, 1002, 1007, 1009
NO_STATUS = 1005
CLIENT_CLOSES = close_frame(NORMAL)
HELLO = b"Hello, world!"

# How many cases each category has, 13.7 down from 1.1: 517 in all. 0, 8 and 11 are empty; 9.9 is not run by the suite.
COUNTS = {
    "1.1": 8, "1.2": 8, "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20,
    "6.1": 3, "6.2": 4, "6.3": 2, "6.4": 4, "6.5": 5, "6.6": 11, "6.7": 4, "6.8": 2, "6.9": 4, "6.10": 3, "6.11": 5,
    "6.12": 8, "6.13": 5, "6.14": 10, "6.15": 1, "6.16": 3, "6.17": 5, "6.18": 5, "6.19": 5, "6.20": 7, "6.21": 8,
    "6.22": 34, "6.23": 7, "7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2,
    "9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6, "10.1": 1,
    **{f"12.{n}": 18 for n in range(1, 6)}, **{f"13.{n}": 18 for n in range(1, 8)},
}
NUMBERS = [f"{category}.{n}" for category, count in COUNTS.items() for n in range(1, count + 1)]


@dataclass(frozen=True)
class Step:
    """What is sent, and what must have come back before the next step: nothing, or these frames."""

    data: bytes
    answers: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Case:
    """One case; `code` is that of the server's close frame. The client closes at the end where that is 1000, unless
    its steps have a close frame already. `chop`: so many octets a send, and the server reads between."""

    number: str
    steps: tuple[Step, ...]
    code: int = NORMAL
    chop: int | None = None
    closes: bool = False


def echoed(number: str, data: bytes, *answers: Frame, chop: int | None = None) -> Case:
    return Case(number, (Step(data, answers),), chop=chop)


def failed(number: str, data: bytes, *answers: Frame, code: int = PROTOCOL_ERROR, chop: int | None = None) -> Case:
    return Case(number, (Step(data, answers),), code, chop)


def closing(number: str, data: bytes, code: int = NORMAL, *answers: Frame) -> Case:
    return Case(number, (Step(data, answers),), code, closes=True)


def framing() -> Iterator[Case]:
    for category, opcode, octet in (("1.1", TEXT, b"*"), ("1.2", BINARY, b"\xfe")):
        for n, size in enumerate((0, 125, 126, 127, 128, 65535, 65536, 65536), 1):
            payload = octet * size
            chop = 997 if n == 8 else None
            yield echoed(f"{category}.{n}", frame(opcode, payload), (opcode, payload), chop=chop)


def pings() -> Iterator[Case]:
    payloads = (b"", HELLO, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125)
    for n, payload in enumerate(payloads, 1):
        yield echoed(f"2.{n}", frame(PING, payload), (PONG, payload))
    yield failed("2.5", frame(PING, b"\xfe" * 126))
    yield echoed("2.6", frame(PING, b"\xfe" * 125), (PONG, b"\xfe" * 125), chop=1)
    yield echoed("2.7", frame(PONG))
    yield echoed("2.8", frame(PONG, b"unsolicited pong payload"))
    ping = b"ping payload"
    yield echoed("2.9", frame(PONG, b"unsolicited pong payload") + frame(PING, ping), (PONG, ping))
    ten = [b"payload-%d" % n for n in range(10)]
    for n, chop in ((10, None), (11, 1)):
        yield echoed(f"2.{n}", b"".join(frame(PING, p) for p in ten), *((PONG, p) for p in ten), chop=chop)


def reserved_bits() -> Iterator[Case]:
    yield failed("3.1", frame(TEXT, HELLO, rsv=1))
    for rsv, chop in ((2, None), (3, len(frame(TEXT, HELLO))), (4, 1)):
        data = frame(TEXT, HELLO) + frame(TEXT, HELLO, rsv=rsv) + frame(PING)
        yield failed(f"3.{rsv}", data, (TEXT, HELLO), chop=chop)
    yield failed("3.5", frame(BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", rsv=5))
    yield failed("3.6", frame(PING, HELLO, rsv=6))
    yield failed("3.7", frame(CLOSE, rsv=7))


def opcodes() -> Iterator[Case]:
    for category, first in (("4.1", 3), ("4.2", 11)):
        yield failed(f"{category}.1", frame(first))
        yield failed(f"{category}.2", frame(first + 1, b"reserved opcode payload"))
        for n, payload, chop in ((3, b"", None), (4, HELLO, None), (5, HELLO, 1)):
            data = frame(TEXT, HELLO) + frame(first + n - 1, payload) + frame(PING)
            yield failed(f"{category}.{n}", data, (TEXT, HELLO), chop=chop)


def fragments() -> Iterator[Case]:
    one, two = b"fragment1", b"fragment2"
    for n, opcode in ((1, PING), (2, PONG)):
        yield failed(f"5.{n}", frame(opcode, one, fin=False) + frame(CONTINUATION, two))
    per_frame = len(frame(TEXT, one))
    for n, chop in ((3, None), (4, per_frame), (5, 1)):
        yield echoed(f"5.{n}", cut(one, two), (TEXT, one + two), chop=chop)
    between = frame(TEXT, one, fin=False) + frame(PING, b"ping payload") + frame(CONTINUATION, two)
    for n, chop in ((6, None), (7, per_frame), (8, 1)):
        yield echoed(f"5.{n}", between, (PONG, b"ping payload"), (TEXT, one + two), chop=chop)
    for n, fin in ((9, True), (12, False)):
        lonely = frame(CONTINUATION, b"non-continuation payload", fin=fin)
        for at, chop in enumerate((None, len(lonely), 1)):
            yield failed(f"5.{n + at}", lonely + frame(TEXT, HELLO), chop=chop)
    after = cut(one, two) + frame(CONTINUATION, b"fragment3", fin=False) + frame(TEXT, b"fragment4")
    yield failed("5.15", after, (TEXT, one + two))
    for n, fin in ((16, False), (17, True)):
        yield failed(f"5.{n}", (frame(CONTINUATION, one, fin=fin) + cut(two, b"fragment3")) * 2)
    yield failed("5.18", frame(TEXT, one, fin=False) + frame(TEXT, two))
    parts = [b"fragment%d" % n for n in range(1, 6)]
    for n, chop in ((19, None), (20, per_frame)):
        first = frame(TEXT, parts[0], fin=False) + frame(CONTINUATION, parts[1], fin=False) + frame(PING, b"pongme 1!")
        rest = b"".join(frame(CONTINUATION, part, fin=False) for part in parts[2:4])
        rest += frame(PING, b"pongme 2!") + frame(CONTINUATION, parts[4])
        yield Case(f"5.{n}", (Step(first, ((PONG, b"pongme 1!"),)),
                              Step(rest, ((PONG, b"pongme 2!"), (TEXT, b"".join(parts))))), chop=chop)


def cut(*payloads: bytes, opcode: int = TEXT) -> bytes:
    """One message in these fragments."""
    last = len(payloads) - 1
    return b"".join(frame(CONTINUATION if n else opcode, p, fin=n == last) for n, p in enumerate(payloads))


def pieces(payload: bytes, size: int) -> list[bytes]:
    return [payload[at : at + size] for at in range(0, len(payload), size)]


def closes() -> Iterator[Case]:
    text, ping, close = frame(TEXT, b"Hello World!"), frame(PING), close_frame(NORMAL)
    yield echoed("7.1.1", text, (TEXT, b"Hello World!"))
    yield closing("7.1.2", close + frame(CLOSE))
    yield closing("7.1.3", close + ping)
    yield closing("7.1.4", close + text)
    yield closing("7.1.5", frame(TEXT, b"fragment1", fin=False) + close + frame(CONTINUATION, b"fragment2"))
    yield closing("7.1.6", frame(TEXT, filled(b"BAsd7&jh23", 256 << 10)) + text + close + ping, TOO_BIG)
    yield closing("7.3.1", frame(CLOSE), NO_STATUS)
    yield closing("7.3.2", frame(CLOSE, b"a"), PROTOCOL_ERROR)
    yield closing("7.3.3", close)
    yield closing("7.3.4", close_frame(NORMAL, b"Hello World!"))
    yield closing("7.3.5", close_frame(NORMAL, b"*" * 123))
    yield closing("7.3.6", close_frame(NORMAL, b"*" * 124), PROTOCOL_ERROR)
    invalid = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"
    yield closing("7.5.1", close_frame(NORMAL, invalid), INVALID_DATA)
    good = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for n, code in enumerate(good, 1):
        yield closing(f"7.7.{n}", frame(CLOSE, pack("!H", code)), code)
    for n, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield closing(f"7.9.{n}", frame(CLOSE, pack("!H", code)), PROTOCOL_ERROR)
    for n, code in enumerate((5000, 65535), 1):
        yield closing(f"7.13.{n}", frame(CLOSE, pack("!H", code)), PROTOCOL_ERROR)


def filled(pattern: bytes, size: int) -> bytes:
    return (pattern * (size // len(pattern) + 1))[:size]


def limits() -> Iterator[Case]:
    """9.1-9.6: with a limit that lets them through. What the default limit says is test_autobahn.py's."""
    kib, mib = 1 << 10, 1 << 20
    kinds = ((TEXT, b"BAsd7&jh23", b"*"), (BINARY, b"\x00\xfe\x23\xfa\xf0", b"\xfe"))
    for category, (opcode, pattern, octet) in enumerate(kinds, 1):
        for n, size in enumerate((64 * kib, 256 * kib, mib, 4 * mib, 8 * mib, 16 * mib), 1):
            payload = filled(pattern, size)
            yield echoed(f"9.{category}.{n}", frame(opcode, payload), (opcode, payload))
        whole = octet * (4 * mib)
        for n, size in enumerate((64, 256, kib, 4 * kib, 16 * kib, 64 * kib, 256 * kib, mib, 4 * mib), 1):
            yield echoed(f"9.{category + 2}.{n}", cut(*pieces(whole, size), opcode=opcode), (opcode, whole))
        payload = filled(pattern, mib)
        for n, chop in enumerate((64, 128, 256, 512, 1024, 2048), 1):
            yield echoed(f"9.{category + 4}.{n}", frame(opcode, payload), (opcode, payload), chop=chop)


def round_trips() -> Iterator[tuple[str, int, bytes]]:
    """9.7 and 9.8: a message a thousand times, the next one when the echo has come."""
    for category, opcode, octet in (("9.7", TEXT, b"*"), ("9.8", BINARY, b"\xfe")):
        for n, size in enumerate((0, 16, 64, 256, 1024, 4096), 1):
            yield f"{category}.{n}", opcode, octet * size


def auto_fragments() -> Iterator[Case]:
    payload = b"*" * 65536
    yield echoed("10.1.1", cut(*pieces(payload, 1300)), (TEXT, payload))
