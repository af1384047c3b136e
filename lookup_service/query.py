"""Query strings, decoded strictly: what a client meant is never guessed.

WSGI hands the query over as latin-1 text, one character per byte (PEP 3333), so the bytes are taken back and decoded
here. The rules are those of an HTML form: percent escapes, and `+` is a space. A literal plus is sent as `%2B`, which
`encodeURIComponent`, `URLSearchParams`, `urllib.parse.quote` and httpx all do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from ringway.core.errors import InvalidInput

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def pairs(query: str) -> Iterator[tuple[str, bytes]]:
    """The name and the decoded bytes of each parameter. Raises InvalidInput for a broken percent escape."""
    for part in query.split("&"):
        if part:
            name, _, raw = part.partition("=")
            yield name, decoded(name, raw)


def decoded(name: str, raw: str) -> bytes:
    if "%" not in raw and "+" not in raw:
        return raw.encode("latin-1")
    if _BAD_ESCAPE.search(raw):
        rule = "has a % that is not followed by two hexadecimal digits"
        raise InvalidInput(name, raw, rule, "percent-encode the value (a literal % is %25)", code=_code(name))
    return unquote_to_bytes(raw.replace("+", " ").encode("latin-1"))


def parameters(query: str) -> dict[str, bytes]:
    """The parameters by name.

    Raises:
        InvalidInput: a broken percent escape, or a name that is given twice (two parts of a system could then
            read two different values).
    """
    found: dict[str, bytes] = {}
    for name, value in pairs(query):
        if name in found:
            raise InvalidInput(name, query, "is given more than once", "send it once", code=_code(name))
        found[name] = value
    return found


def text(name: str, value: bytes | None, default: str = "") -> str:
    """A parameter as text. Raises InvalidInput when it is not UTF-8."""
    if value is None:
        return default
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidInput(name, value, "must be UTF-8", "percent-encode its UTF-8 bytes", code=_code(name)) from None


def _code(name: str) -> str:
    return "bad_uid" if name == "uid" else "bad_input"
