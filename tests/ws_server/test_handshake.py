"""The opening handshake's rules (RFC 6455, section 4.2), from bytes to verdicts."""

from __future__ import annotations

import random

import pytest

from ringway.ws_server.handshake import (
    Handshake,
    Refuse,
    Requests,
    accept_response,
    check,
    parse_head,
    parse_query,
    refuse_response,
)
from tests.ws_server.serving import HEAD


def head(**changes: str | None) -> bytes:
    """A good request, with headers changed or (None) left out; underscores stand for hyphens."""
    text = HEAD.format(path="/ws?ticket=abc", extra="").rstrip("\r\n")
    lines = text.split("\r\n")
    for name, value in changes.items():
        name = name.replace("_", "-")
        lines = [line for line in lines if not line.lower().startswith(name + ":")]
        if value is not None:
            lines.append(f"{name}: {value}")
    return "\r\n".join(lines).encode()


def verdict(request: bytes, origins: frozenset[str] | None = None) -> Refuse | None:
    parsed = parse_head(request)
    return parsed if isinstance(parsed, Refuse) else check(parsed, origins)


def status(request: bytes) -> int:
    refusal = verdict(request)
    return 101 if refusal is None else refusal.status


def test_a_good_request_is_read() -> None:
    request = parse_head(head(sec_websocket_protocol="ringway.v1, other"), "1.2.3.4:5")
    assert isinstance(request, Handshake)
    assert (request.path, request.query, request.peer) == ("/ws", {"ticket": "abc"}, "1.2.3.4:5")
    assert request.headers["host"] == "localhost"
    assert request.subprotocols == ["ringway.v1", "other"]
    assert check(request) is None


def test_the_answer_of_section_1_3() -> None:
    request = parse_head(head())
    assert isinstance(request, Handshake)
    lines = accept_response(request, "ringway.v1").decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 101 Switching Protocols"
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines
    assert "Sec-WebSocket-Protocol: ringway.v1" in lines
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 101),
        ({"connection": "keep-alive, Upgrade"}, 101),
        ({"upgrade": "WebSocket"}, 101),
        ({"content_length": "0"}, 101),
        ({"host": None}, 400),
        ({"upgrade": None}, 426),
        ({"upgrade": "h2c"}, 426),
        ({"connection": "keep-alive"}, 426),
        ({"sec_websocket_version": None}, 400),
        ({"sec_websocket_version": "8"}, 426),
        ({"sec_websocket_key": None}, 400),
        ({"sec_websocket_key": "c2hvcnQ="}, 400),
        ({"sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ!!"}, 400),
        ({"content_length": "5"}, 400),
        ({"transfer_encoding": "chunked"}, 400),
    ],
)
def test_the_rules(changes: dict[str, str | None], expected: int) -> None:
    assert status(head(**changes)) == expected


@pytest.mark.parametrize(
    "line",
    [
        "GET /ws",
        "GET /ws HTTP/2.0",
        "GET ws HTTP/1.1",
        "get /ws HTTP/1.1",
        "GET /w s HTTP/1.1",
        "",
        "\x16\x03\x01",
        "GET /\u00fc HTTP/1.1",
    ],
)
def test_a_request_line_that_is_none(line: str) -> None:
    rest = head().split(b"\r\n", 1)[1]
    assert status(line.encode("latin-1") + b"\r\n" + rest) == 400


@pytest.mark.parametrize(
    "line",
    [
        "no colon",
        " folded: x",
        "name : x",
        ": x",
        "bad name: x",
        "x: a\x00b",
        "x: a\nb",
        "x: \x7f",
        "Host: again",
        "Sec-WebSocket-Version: 13",
    ],
)
def test_a_header_line_that_is_none(line: str) -> None:
    assert status(head() + b"\r\n" + line.encode("latin-1")) == 400


def test_a_repeated_header_is_joined() -> None:
    request = parse_head(head() + b"\r\nX-Forwarded-For: a\r\nx-forwarded-for: b ")
    assert isinstance(request, Handshake)
    assert request.headers["x-forwarded-for"] == "a, b"


def test_too_many_headers_are_431() -> None:
    assert status(head() + b"".join(b"\r\nx-%d: y" % number for number in range(100))) == 431


def test_other_methods_are_405_and_http_1_0_is_400() -> None:
    assert status(head().replace(b"GET", b"POST", 1)) == 405
    assert status(head().replace(b"HTTP/1.1", b"HTTP/1.0", 1)) == 400


def test_a_426_names_what_would_do() -> None:
    refusal = verdict(head(sec_websocket_version="7"))
    assert refusal is not None
    answer = refuse_response(refusal)
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
    assert b"\r\nUpgrade: websocket\r\n" in answer
    assert b"\r\nConnection: Upgrade, close\r\n" in answer


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://good.example", True), ("https://evil.example", False), ("null", False), (None, True)],
)
def test_the_origin_is_checked_when_origins_are_given(origin: str | None, allowed: bool) -> None:
    refusal = verdict(head(origin=origin), frozenset({"https://good.example"}))
    assert (refusal is None) == allowed
    assert refusal is None or refusal.status == 403


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {}),
        ("ticket=a.b-c_d", {"ticket": "a.b-c_d"}),
        ("a=1&b=2&a=3", {"a": "3", "b": "2"}),
        ("inbox=g%3A7&x=a+b", {"inbox": "g:7", "x": "a b"}),
        ("flag&a=1", {"a": "1"}),
        ("a=%FF", {"a": "\ufffd"}),
        ("a=b=c", {"a": "b=c"}),
        ("&".join(f"f{number}=" for number in range(200)), {}),
    ],
)
def test_queries(query: str, fields: dict[str, str]) -> None:
    assert parse_query(query) == fields


KEYS = ("dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA==", "+/+/+/+/+/+/+/+/+/+/+w==")
ORIGINS = frozenset({"https://here.example"})
SPOILED = (
    b"", b" ", b"\r\n", b"\r\n\r\n", b"\x00", b"\xff", b"=", b"GET ", b" HTTP/1.1", b"/", b"?a=b&", b"%41",
    b"Upgrade: no\r\n", b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"\r\nOrigin: https://there.example",
    b"\r\nX: \xe4",
)  # fmt: skip


def in_full(request: bytes) -> Handshake | Refuse:
    parsed = parse_head(request, "peer")
    return parsed if isinstance(parsed, Refuse) else check(parsed, ORIGINS) or parsed


def crowd() -> list[bytes]:
    """Requests of a few clients, with keys and tickets of their own."""
    kinds = [
        head(), head(origin="https://here.example"), head(origin="https://there.example"), head(host=None),
        head(sec_websocket_key=None, cookie="a=b", sec_websocket_protocol="ringway.v1"), head(x_long="x" * 3000),
        head().replace(b"Sec-WebSocket-Key", b"sec-websocket-key"), head().replace(b"HTTP/1.1", b"HTTP/1.0"),
        head(content_length="0"), head(sec_websocket_version="12"),
    ]  # fmt: skip
    return [
        kind.replace(b"abc", b"ticket-%d" % number).replace(KEYS[0].encode(), key.encode())
        for kind in kinds for number, key in enumerate(KEYS)
    ]  # fmt: skip


def test_headers_that_are_known_give_the_same_request_as_reading_them() -> None:
    requests = Requests(ORIGINS)
    for _ in range(2):
        for request in crowd():
            assert requests.read(request, "peer") == in_full(request)


def test_spoiled_requests_get_the_same_answer_whatever_was_known_before() -> None:
    chance = random.Random(7)
    requests = Requests(ORIGINS)
    good = crowd()
    for request in good:
        requests.read(request, "peer")
    for _ in range(30_000):
        request = chance.choice(good)
        start = chance.randrange(len(request))
        spoiled = request[:start] + chance.choice(SPOILED) + request[start + chance.choice((0, 0, 1, 2, 24)) :]
        assert requests.read(spoiled, "peer") == in_full(spoiled), spoiled


def test_what_is_known_of_headers_stays_small() -> None:
    requests = Requests()
    for number in range(2000):
        assert isinstance(requests.read(head(cookie=f"user={number}")), Handshake)
    assert isinstance(requests.read(head(cookie="x" * 5000)), Handshake)
    assert 0 < len(requests._known) <= 500
    assert max(map(len, requests._known)) <= 2000
