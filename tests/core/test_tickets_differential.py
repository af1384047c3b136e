"""The short way of reading tickets against PyJWT: whatever it says yes to, PyJWT reads the same way."""

from __future__ import annotations

import hmac
import json
import random
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import jwt
import pytest

from ringway.core import errors, tickets
from ringway.core.keys import KeyRing
from ringway.core.members import Version

KEYS = KeyRing.parse("k2:second-secret-of-the-cluster,k1:first-secret-of-the-cluster")
OLD = KeyRing.parse("k1:first-secret-of-the-cluster")
NOW = 1_700_000_000.0
LETTERS = "ABCXYZabcxyz0189-_.=+/ \u00e9\x00"
CLAIMS: dict[str, Any] = {
    "sub": "alice", "aud": "n1", "gen": 5, "epoch": 12, "exp": int(NOW) + 30, "jti": "j", "roles": [],
    "reason": "route",
}
ODD: tuple[Any, ...] = (None, True, 0, -1, 1.5, 1 << 70, "", "x", "7", [], ["publish"], [1], {}, {"a": 1})


def verdict(read: Any) -> tuple[str, Any]:
    try:
        return "ok", read()
    except errors.TicketError as error:
        return type(error).__name__, None


def both(text: str) -> tuple[tuple[str, Any], tuple[str, Any]]:
    short = verdict(lambda: tickets.verify(text, KEYS, node="n1", now=NOW))
    return short, verdict(lambda: by_pyjwt(text))


def by_pyjwt(text: str) -> tickets.Ticket:
    """`verify` as it would be without the short way."""
    read = tickets._ticket(tickets._claims(text, KEYS))
    if read.exp <= NOW:
        raise errors.TicketExpired("")
    if read.node != "n1":
        raise errors.TicketForeign("")
    return read


def a_ticket(keys: KeyRing = KEYS, **fields: Any) -> str:
    given = {"uid": "\u7528\u62377", "node": "n1", "version": Version(5, 12), "now": NOW, "roles": ["publish"]}
    return tickets.issue(keys, **{**given, **fields})


def signed(payload: bytes) -> str:
    """Anything at all under our header, with the right signature."""
    return sealed(urlsafe_b64encode(payload).rstrip(b"=").decode())


def sealed(payload: str) -> str:
    """The same, of a payload that may not even be base64."""
    text = f"{tickets._header('k2').decode()}.{payload}"
    mac = hmac.digest(KEYS.derive("ticket", "k2"), text.encode(), sha256)
    return f"{text}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "fields", [{}, {"now": NOW - 60}, {"node": "n2"}, {"reason": "resume", "ttl_s": 3600}, {"keys": OLD}]
)
def test_what_is_issued_is_read_alike(fields: dict[str, Any]) -> None:
    short, reference = both(a_ticket(**fields))
    assert short == reference


def test_the_short_way_takes_what_the_cluster_issues() -> None:
    assert tickets._own_claims(a_ticket(), KEYS) is not None
    assert tickets._own_claims(a_ticket(keys=OLD), KEYS) is not None
    assert tickets._own_claims(signed(json.dumps(CLAIMS).encode()), KEYS) is not None


def test_damaged_tickets_are_judged_alike() -> None:
    chance = random.Random(7)
    good = a_ticket()
    for _ in range(20_000):
        text = list(good)
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            at = chance.randrange(len(text))
            text[at : at + chance.choice((0, 1, 1, 1, 9))] = chance.choice((chance.choice(LETTERS), "", "."))
        short, reference = both("".join(text))
        assert short == reference, "".join(text)


def test_odd_claims_with_a_right_signature_are_judged_alike() -> None:
    for name in CLAIMS:
        for value in ODD:
            short, reference = both(signed(json.dumps({**CLAIMS, name: value}).encode()))
            assert short == reference, (name, value)
        rest = {key: value for key, value in CLAIMS.items() if key != name}
        short, reference = both(signed(json.dumps(rest).encode()))
        assert short == reference, name


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"7", b"{", b"\xff", b'"x"', b"{}"])
def test_a_payload_that_is_no_object_is_judged_alike(payload: bytes) -> None:
    short, reference = both(signed(payload))
    assert short == reference
    assert short[0] == "TicketMalformed"


def test_payloads_that_are_spelled_badly_are_judged_alike() -> None:
    good = urlsafe_b64encode(json.dumps(CLAIMS).encode()).rstrip(b"=").decode()
    for size in range(len(good) - 8, len(good) + 1):
        for end in ("", "=", "==", "===", "A", "+", "/", " ", "\n", "!", "\u00e4"):
            short, reference = both(sealed(good[:size] + end))
            assert short == reference, good[size:] + end


def test_a_header_of_another_library_is_left_to_pyjwt() -> None:
    text = jwt.encode(CLAIMS, KEYS.derive("ticket", "k1"), "HS256", {"kid": "k1", "x": 1})
    assert tickets._own_claims(text, KEYS) is None
    assert tickets.verify(text, KEYS, node="n1", now=NOW).uid == "alice"
