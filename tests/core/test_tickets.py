"""Tickets: made for one node, one user, a short time, once."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import jwt
import pytest

from ringway.core import errors
from ringway.core.keys import KeyRing
from ringway.core.members import Version
from ringway.core.tickets import ReplayGuard, Ticket, issue, verify

KEYS = KeyRing.parse("k2:second-secret-of-the-cluster,k1:first-secret-of-the-cluster")
OLD = KeyRing.parse("k1:first-secret-of-the-cluster")
OTHER = KeyRing.parse("k2:not-the-secret-of-the-cluster")
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "tickets.json").read_text())
NOW = 1_700_000_000.0


def a_ticket(keys: KeyRing = KEYS, **fields: Any) -> str:
    return issue(keys, **{"uid": "用户7", "node": "n1", "version": Version(5, 12), "now": NOW, **fields})


def test_a_ticket_says_what_was_put_in() -> None:
    read = verify(a_ticket(roles=["publish"], reason="softdown"), KEYS, node="n1", now=NOW + 29)
    assert (read.uid, read.node, read.version, read.exp) == ("用户7", "n1", Version(5, 12), NOW + 30)
    assert (read.roles, read.reason) == (("publish",), "softdown")


def test_golden_tickets_are_still_read() -> None:
    for case in VECTORS:
        read = verify(case["ticket"], KeyRing.parse(case["keys"]), node=case["node"], now=case["now"])
        assert {"uid": read.uid, "version": str(read.version), "jti": read.jti} == case["says"]


def test_it_ends() -> None:
    with pytest.raises(errors.TicketExpired, match="0 s ago"):
        verify(a_ticket(), KEYS, node="n1", now=NOW + 30)


def test_another_node_refuses_it() -> None:
    with pytest.raises(errors.TicketForeign, match="'n1'"):
        verify(a_ticket(), KEYS, node="n2", now=NOW)


def test_rotation_accepts_the_old_key_and_never_a_removed_one() -> None:
    assert verify(a_ticket(OLD), KEYS, node="n1", now=NOW).uid == "用户7"
    with pytest.raises(errors.TicketForged):
        verify(a_ticket(KEYS), OLD, node="n1", now=NOW)


def test_forgeries() -> None:
    good = a_ticket()
    head, body, _ = good.split(".")
    none_alg = jwt.encode({"sub": "x"}, "", "none", {"kid": "k2"})
    raw_secret = jwt.encode({"sub": "x"}, "second-secret-of-the-cluster", "HS256", {"kid": "k2"})
    for forged in (a_ticket(OTHER), none_alg, raw_secret, f"{head}.{body}.AAAA"):
        with pytest.raises(errors.TicketForged):
            verify(forged, KEYS, node="n1", now=NOW)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "\x00.\x00.\x00", "é.é.é", "." * 50, "x" * 9000])
def test_garbage(text: str) -> None:
    with pytest.raises(errors.TicketError):
        verify(text, KEYS, node="n1", now=NOW)


@pytest.mark.parametrize("claim", ["sub", "aud", "gen", "epoch", "exp", "jti", "reason"])
def test_a_missing_or_mistyped_claim_is_malformed(claim: str) -> None:
    claims = {"sub": "a", "aud": "n1", "gen": 1, "epoch": 1, "exp": NOW + 9, "jti": "j", "reason": "route"}
    key = KEYS.derive("ticket", "k2")
    mistyped = {**claims, claim: ["x"]}
    missing = {k: v for k, v in claims.items() if k != claim}
    for broken in (missing, mistyped):
        with pytest.raises(errors.TicketMalformed):
            verify(jwt.encode(broken, key, "HS256", {"kid": "k2"}), KEYS, node="n1", now=NOW)


def test_a_ticket_opens_one_session() -> None:
    guard = ReplayGuard(horizon_s=60)
    ticket = Ticket("alice", "n1", Version(1, 1), NOW + 60, "j1", (), "route")
    guard.use(ticket, NOW)
    for later in (0, 59, 60, 61):
        with pytest.raises(errors.TicketReused):
            guard.use(ticket, NOW + later)


def test_used_tickets_are_forgotten_after_their_life() -> None:
    guard = ReplayGuard(horizon_s=60)
    for second in range(600):
        guard.use(Ticket("a", "n1", Version(1, 1), NOW + second + 60, f"j{second}", (), "route"), NOW + second)
    assert len(guard) <= 121


def test_keys_reach_a_spawned_process_whole() -> None:
    token = issue(KEYS, uid="alice", node="n1", version=Version(1, 1), now=1000.0)
    copied = pickle.loads(pickle.dumps(KEYS))
    assert verify(token, copied, node="n1", now=1000.0).uid == "alice"
    assert copied.kids == KEYS.kids
