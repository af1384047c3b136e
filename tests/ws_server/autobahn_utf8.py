"""Autobahn's category 6: valid and invalid UTF-8, whole, in fragments, and failing as early as it can be known."""

from __future__ import annotations

from collections.abc import Iterator

from tests.ws_server.autobahn import INVALID_DATA, Case, Step, cut, echoed, failed, pieces
from tests.ws_server.frames import CONTINUATION, TEXT, frame

# With U+1F79, as in the suite: 11 bytes.
KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
HELLO = "Hello-µ@ßöäüàá-UTF-8!!".encode()
OUT_OF_RANGE = b"\xf4\x90\x80\x80"


def _incomplete() -> list[bytes]:
    """3.3 of Kuhn's test: the last continuation byte is missing."""
    return [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80",
            b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"]


def _lonely(first: int, last: int) -> bytes:
    return b"".join(bytes((octet, 0x20)) for octet in range(first, last))


def _surrogate_pairs() -> list[bytes]:
    high = (b"\xa0\x80", b"\xad\xbf", b"\xae\x80", b"\xaf\xbf")
    return [b"\xed" + h + b"\xed" + low for h in high for low in (b"\xb0\x80", b"\xbf\xbf")]


# The suite's own table (case6_x_x.py, after Markus Kuhn's UTF-8-test.txt), 6.5 to 6.23.
SEQUENCES: dict[str, list[bytes]] = {
    "6.5": [b"hello$world", "hello¢world".encode(), "hello€world".encode(), "hello\U00024b62world".encode(), KOSME],
    "6.6": [KOSME[:size] for size in range(1, len(KOSME) + 1)],
    "6.7": [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    "6.8": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "6.9": [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    "6.10": [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    "6.11": [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", OUT_OF_RANGE],
    "6.12": [b"\x80", b"\xbf", *((b"\x80\xbf" * 3)[:size] for size in range(2, 7)), bytes(range(0x80, 0xBF))],
    "6.13": [_lonely(0xC0, 0xDF), _lonely(0xE0, 0xEF), _lonely(0xF0, 0xF7), _lonely(0xF8, 0xFB), _lonely(0xFC, 0xFD)],
    "6.14": _incomplete(),
    "6.15": [b"".join(_incomplete())],
    "6.16": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    "6.17": [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"],
    "6.18": [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    "6.19": [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
    "6.20": [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbe\x80",
             b"\xed\xbf\xbf"],
    "6.21": _surrogate_pairs(),
    "6.22": [chr(plane << 16 | 0xFFFE | low).encode() for plane in range(17) for low in (0, 1)],
    "6.23": [chr(0xFFF9 + n).encode() for n in range(7)],
}
VALID = {"6.5", "6.7", "6.9", "6.22", "6.23"}
# In categories of both kinds: which numbers are valid. KOSME's prefixes end between characters at 2, 5, 7, 9, 11.
VALID_NUMBERS = {"6.6": {2, 5, 7, 9, 11}, "6.11": {1, 2, 3, 4}}


def is_valid(category: str, n: int) -> bool:
    return category in VALID or n in VALID_NUMBERS.get(category, ())


def sequences() -> Iterator[Case]:
    for category, texts in SEQUENCES.items():
        for n, text in enumerate(texts, 1):
            if is_valid(category, n):
                yield echoed(f"{category}.{n}", frame(TEXT, text), (TEXT, text))
            else:
                yield failed(f"{category}.{n}", frame(TEXT, text), code=INVALID_DATA)


def messages() -> Iterator[Case]:
    """6.1, 6.2, 6.3."""
    middle = b"middle frame payload"
    yield echoed("6.1.1", frame(TEXT), (TEXT, b""))
    yield echoed("6.1.2", cut(b"", b"", b""), (TEXT, b""))
    yield echoed("6.1.3", cut(b"", middle, b""), (TEXT, middle))
    yield echoed("6.2.1", frame(TEXT, HELLO), (TEXT, HELLO))
    half = len("Hello-µ@ßöä".encode())
    yield echoed("6.2.2", cut(HELLO[:half], HELLO[half:]), (TEXT, HELLO))
    yield echoed("6.2.3", cut(*pieces(HELLO, 1)), (TEXT, HELLO))
    yield echoed("6.2.4", cut(*pieces(KOSME, 1)), (TEXT, KOSME))
    bad = KOSME + b"\xed\xa0\x80" + b"edited"
    yield failed("6.3.1", frame(TEXT, bad), code=INVALID_DATA)
    yield failed("6.3.2", cut(*pieces(bad, 1)), code=INVALID_DATA)


def fail_fast() -> Iterator[Case]:
    """6.4. In fragments (1, 2) the one that makes it invalid ends it, the last one is never sent. In chops of one
    frame (3, 4) it is refused when the frame is whole, which the suite calls non-strict: frames are at most 64 KiB, so
    that nothing is gained by a look at their parts."""
    bad, split = KOSME + OUT_OF_RANGE + b"edited", len(KOSME)
    for n, parts in ((1, (bad[:split], bad[split : split + 4])), (2, (bad[:12], bad[12:13]))):
        steps = (Step(frame(TEXT, parts[0], fin=False)), Step(frame(CONTINUATION, parts[1], fin=False)))
        yield Case(f"6.4.{n}", steps, INVALID_DATA)
    whole = frame(TEXT, bad)
    head = len(whole) - len(bad)
    for n, ends in ((3, (split, split + 4)), (4, (12, 13))):
        first, second = (head + end for end in ends)
        yield Case(f"6.4.{n}", (Step(whole[:first]), Step(whole[first:second]), Step(whole[second:])), INVALID_DATA)
