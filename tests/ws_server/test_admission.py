from __future__ import annotations

import pytest

from ringway.core.hashing import hashing
from ringway.core.history import RingView
from ringway.core.keys import DEVELOPMENT_KEYS, KeyRing
from ringway.core.members import Member, RingDocument, State, Version
from ringway.core.ring import Ring
from ringway.core.tickets import Ticket
from ringway.ws_server.admission import Verdict, admit

XXH = hashing("xxh64-v1")
ME = "n1"


def view(*ids: str, epoch: int = 5) -> RingView:
    members = [Member(i, f"ws://{i}/ws", f"http://{i}", 64, State.ACTIVE) for i in ids]
    document = RingDocument.sign(
        version=Version(1, epoch), alg=XXH.name, members=members, keys=KeyRing.parse(DEVELOPMENT_KEYS)
    )
    return RingView(document, Ring.build(document.weights, XXH))


def ticket(uid: str = "alice", epoch: int = 5, reason: str = "route") -> Ticket:
    return Ticket(uid, ME, Version(1, epoch), 1e12, "j", (), reason)


OTHERS = view("n2")
MINE = view(ME)


@pytest.mark.parametrize(
    ("epoch", "ring", "reason", "refreshed", "verdict"),
    [
        (5, MINE, "route", False, Verdict.ACCEPT),
        (5, OTHERS, "route", False, Verdict.REDIRECT),
        (4, MINE, "route", False, Verdict.ACCEPT),
        (4, OTHERS, "route", False, Verdict.REDIRECT),
        (4, OTHERS, "move", False, Verdict.REDIRECT),
        (4, MINE, "resume", False, Verdict.ACCEPT),
        (4, OTHERS, "resume", False, Verdict.REDIRECT),
        (6, MINE, "route", False, Verdict.REFRESH),
        (6, OTHERS, "route", False, Verdict.REFRESH),
        (6, OTHERS, "softdown", False, Verdict.REFRESH),
        (6, MINE, "route", True, Verdict.PROVISIONAL),
        (6, OTHERS, "route", True, Verdict.PROVISIONAL),
        (6, OTHERS, "move", True, Verdict.PROVISIONAL),
        (6, OTHERS, "resume", True, Verdict.TRY_AGAIN),
        (5, OTHERS, "softdown", False, Verdict.AWAY),
        (5, MINE, "softdown", False, Verdict.ACCEPT),
        (5, None, "route", False, Verdict.REFRESH),
        (5, None, "route", True, Verdict.PROVISIONAL),
        (5, None, "resume", True, Verdict.TRY_AGAIN),
        (5, view(), "route", False, Verdict.PROVISIONAL),
    ],
)
def test_case_table(epoch: int, ring: RingView | None, reason: str, refreshed: bool, verdict: Verdict) -> None:
    assert admit(ticket(epoch=epoch, reason=reason), ring, me=ME, refreshed=refreshed).verdict is verdict


def test_a_redirect_names_the_owner() -> None:
    assert admit(ticket(), OTHERS, me=ME).owner == OTHERS.member("n2")


def test_an_older_ring_never_redirects() -> None:
    verdicts = {admit(ticket(epoch=9, reason=r), OTHERS, me=ME, refreshed=f).verdict
                for r in ("route", "softdown", "move", "resume") for f in (False, True)}
    assert Verdict.REDIRECT not in verdicts
