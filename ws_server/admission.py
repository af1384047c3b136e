"""Who may open a session here: the handshake's case table as one pure function.

The fence: whoever holds the *older* ring refreshes before it judges, and nobody redirects from an older ring. With it
a client is placed after at most two connects (background: ring epochs, section 6).

========================  ==================  =================================================
ticket's ring             owner by my ring    verdict
========================  ==================  =================================================
equal to, or older        me                  ACCEPT
equal to, or older        another             REDIRECT to the owner (4302)
newer                     any                 REFRESH (at most 500 ms), then judge again
newer after the refresh   any                 PROVISIONAL: re-checked with the next ring
  ... a resume ticket     any                 TRY_AGAIN (4303): no lookup placed it here
softdown ticket           another             AWAY: stays until the owner is back
========================  ==================  =================================================
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ringway.core.errors import NoActiveMember
from ringway.core.history import RingView
from ringway.core.members import Member
from ringway.core.tickets import Ticket


class Verdict(StrEnum):
    """What the handshake does with a verified ticket."""

    ACCEPT = "accept"
    PROVISIONAL = "provisional"
    AWAY = "away"
    REFRESH = "refresh"
    REDIRECT = "redirect"
    TRY_AGAIN = "try_again"


class Admission(NamedTuple):
    """A verdict, and the owner where the verdict is about one."""

    verdict: Verdict
    owner: Member | None = None


def admit(ticket: Ticket, view: RingView | None, *, me: str, refreshed: bool = False) -> Admission:
    """Judge a verified ticket that names this node.

    Args:
        view: the ring this node goes by; None while it has none.
        me: this node's id.
        refreshed: whether the ring was asked for again since the ticket came.
    """
    if view is None or ticket.version > view.version:
        if not refreshed:
            return Admission(Verdict.REFRESH)
        return Admission(Verdict.TRY_AGAIN if ticket.reason == "resume" else Verdict.PROVISIONAL)
    try:
        owner = view.owner(ticket.uid)
    except NoActiveMember:
        return Admission(Verdict.PROVISIONAL)
    if owner.id == me:
        return Admission(Verdict.ACCEPT, owner)
    if ticket.reason == "softdown":
        return Admission(Verdict.AWAY, owner)
    return Admission(Verdict.REDIRECT, owner)
