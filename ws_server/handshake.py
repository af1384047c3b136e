"""The opening handshake (RFC 6455, section 4.2) without I/O: request bytes in, verdict and response bytes out."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass, field
from hashlib import sha1
from http import HTTPStatus
from urllib.parse import parse_qsl

from .deflate import Deflate, negotiate

HEAD_END = b"\r\n\r\n"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REQUEST_LINE = re.compile(r"([A-Z]+) (/[\x21-\x7e]*) HTTP/1\.([0-9])")
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_SINGLE = frozenset({"host", "origin", "sec-websocket-key", "sec-websocket-version", "content-length"})
_MAX_HEADERS = 100
_MAX_FIELDS = 100
_GET, _HTTP = b"GET /", b" HTTP/1.1"
_VISIBLE = bytes(range(0x21, 0x7F))
_KEY_FIELD, _KEY_SIZE = b"\r\nSec-WebSocket-Key: ", 24
_KNOWN, _KNOWN_BYTES = 500, 2000  # kinds of headers that are remembered, and how long each may be
_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)


@dataclass(slots=True)
class Handshake:
    """What a client asked for. Header names are in lower case; a repeated query field keeps its last value."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    peer: str = ""
    method: str = "GET"
    minor: int = 1  # of HTTP/1.x

    @property
    def subprotocols(self) -> list[str]:
        """In the client's order of preference."""
        return _tokens(self.headers.get("sec-websocket-protocol", ""))


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer 101. `subprotocol` must be one of the request's; None names none."""

    subprotocol: str | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an HTTP error; `cause` is its label in the metrics."""

    status: int
    body: str
    cause: str = "refused"
    headers: dict[str, str] = field(default_factory=dict)


FULL = Refuse(503, "the node is full; try another", "node full", {"Retry-After": "2"})


def end_of_plain(head: bytes) -> int:
    """Where the empty line of a plain request begins, -1 while it has not come. Bare line feeds count, as in pywsgi."""
    ends = (head.find(b"\n\r\n"), head.find(b"\n\n"))
    return min((end for end in ends if end >= 0), default=-1)


def parse_head(head: bytes, peer: str = "") -> Handshake | Refuse:
    """Read a request's line and headers: everything before the empty line."""
    lines = head.decode("latin-1").split("\r\n")
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        return _bad("the request line is not HTTP/1.x")
    if len(lines) > _MAX_HEADERS:
        return Refuse(431, f"over {_MAX_HEADERS} headers", "header limit")
    headers: dict[str, str] = {}
    for text in lines[1:]:
        header = _HEADER.fullmatch(text)
        if header is None:
            return _bad("a header line is malformed")
        name, value = header[1].lower(), header[2].rstrip(" \t")
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            return _bad(f"header {name} is given twice")
        else:
            headers[name] += ", " + value
    path, _, query = line[2].partition("?")
    return Handshake(path, parse_query(query), headers, peer, line[1], int(line[3]))


class Requests:
    """Reads upgrade requests: `parse_head`, then `check`.

    Clients of one kind send the same headers but for the key, and what a crowd of them sends is read once: headers
    that passed are remembered without their key. Whatever differs in a byte is read in full.
    """

    def __init__(self, origins: frozenset[str] | None = None) -> None:
        """Args: origins: as in `check`."""
        self._origins = origins
        self._known: dict[bytes, dict[str, str]] = {}

    def read(self, head: bytes, peer: str = "") -> Handshake | Refuse:
        """The request, or the first rule that it breaks."""
        at = head.find(b"\r\n")
        key_at = head.find(_KEY_FIELD, at) + len(_KEY_FIELD)
        key_end = key_at + _KEY_SIZE
        kind = head[at:key_at] + head[key_end:]
        known = self._known.get(kind)
        if known is not None and head.startswith(_GET) and head.endswith(_HTTP, 0, at):
            target, key = head[4 : at - len(_HTTP)], head[key_at:key_end]
            if key_at >= len(_KEY_FIELD) and _is_key(key) and not target.translate(None, _VISIBLE):
                path, _, query = target.decode().partition("?")
                return Handshake(path, parse_query(query), {**known, "sec-websocket-key": key.decode()}, peer)
        request = parse_head(head, peer)
        if isinstance(request, Refuse):
            return request
        refusal = check(request, self._origins)
        if refusal is not None:
            return refusal
        as_others_write_it = head[key_at:key_end] == request.headers["sec-websocket-key"].encode()
        if as_others_write_it and len(kind) <= _KNOWN_BYTES:
            self._remember(kind, request.headers)
        return request

    def _remember(self, kind: bytes, headers: dict[str, str]) -> None:
        if len(self._known) >= _KNOWN:
            self._known.clear()  # a crowd's headers are soon back
        self._known[kind] = headers


def parse_query(query: str) -> dict[str, str]:
    """The fields of a query string; text that is not UTF-8 gets replacement characters, as browsers do."""
    if not query:
        return {}
    if query.count("&") >= _MAX_FIELDS:
        return {}
    if ";" in query or "%" in query or "+" in query:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    if "&" not in query:  # what most clients send: a ticket
        name, found, value = query.partition("=")
        return {name: value} if found else {}
    return dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)


def check(request: Handshake, origins: frozenset[str] | None = None) -> Refuse | None:
    """The first rule of section 4.2.1 that the request breaks."""
    headers = request.headers
    if request.method != "GET":
        return Refuse(405, "a WebSocket opens with GET", "method", {"Allow": "GET"})
    if request.minor < 1 or "host" not in headers:
        return _bad("a WebSocket needs HTTP/1.1 and a Host header")
    if not _asks_upgrade(headers):
        return Refuse(426, "this is a WebSocket endpoint", "no upgrade", {"Upgrade": "websocket"})
    version = headers.get("sec-websocket-version")
    if version != "13":
        cause = "Sec-WebSocket-Version is missing" if version is None else "only version 13 is spoken"
        upgrade = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        return _bad(cause) if version is None else Refuse(426, cause, "version", upgrade)
    if not _is_key(headers.get("sec-websocket-key", "")):
        return _bad("Sec-WebSocket-Key is not 16 bytes in base64")
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return _bad("a handshake has no body")
    if origins is not None and headers.get("origin", "") not in {"", *origins}:
        return Refuse(403, "the Origin is not allowed", "origin")
    return None


def agree_deflate(request: Handshake) -> Deflate | None:
    """permessage-deflate parameters, if the client offers some that we can accept."""
    offer = request.headers.get("sec-websocket-extensions")
    return negotiate(offer) if offer else None


def accept_response(request: Handshake, subprotocol: str | None = None, deflate: Deflate | None = None) -> bytes:
    """The 101 answer."""
    digest = sha1(request.headers["sec-websocket-key"].encode() + _GUID).digest()
    response = _SWITCHING + b2a_base64(digest, newline=False)
    if subprotocol is not None:
        response += f"\r\nSec-WebSocket-Protocol: {subprotocol}".encode("latin-1")
    if deflate is not None:
        response += f"\r\nSec-WebSocket-Extensions: {deflate.answer}".encode("latin-1")
    return response + HEAD_END


def refuse_response(refusal: Refuse) -> bytes:
    """An HTTP error that ends the connection."""
    upgrade = "Upgrade, close" if "Upgrade" in refusal.headers else "close"
    headers = {"Connection": upgrade, "Content-Type": "text/plain; charset=utf-8", **refusal.headers}
    return _last_response(refusal.status, headers, (refusal.body + "\n").encode())


def json_response(body: bytes) -> bytes:
    """A 200 that ends the connection."""
    return _last_response(200, {"Connection": "close", "Content-Type": "application/json"}, body)


def _last_response(status: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def _bad(rule: str) -> Refuse:
    return Refuse(400, rule, "bad request")


def _asks_upgrade(headers: dict[str, str]) -> bool:
    upgrade, connection = headers.get("upgrade", ""), headers.get("connection", "")
    return "websocket" in _tokens(upgrade.lower()) and "upgrade" in _tokens(connection.lower())


def _tokens(value: str) -> list[str]:
    return [token for part in value.split(",") if (token := part.strip())]


def _is_key(key: str | bytes) -> bool:
    try:
        return len(key) == 24 and len(a2b_base64(key, strict_mode=True)) == 16
    except (Base64Error, ValueError):
        return False
