"""Which node a user is sent to: the owner, unless it is marked as unreachable. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ringway.core.history import RingView
from ringway.core.members import Member

CANDIDATES = 3


class Placement(NamedTuple):
    """`candidates` are the next distinct nodes clockwise, the owner first."""

    member: Member
    reason: str
    candidates: tuple[str, ...]

    @property
    def owner(self) -> str:
        return self.candidates[0]


def place(view: RingView, uid: str, down: Collection[str] = ()) -> Placement:
    """The owner, or the first candidate that is not in `down`, who is also the next owner once the owner has left.

    Where every node is marked the marks are worth nothing, and the owner is the answer.
    """
    candidates = view.ring.preference(uid, CANDIDATES + len(down))
    chosen = next((node for node in candidates if node not in down), candidates[0])
    reason = "route" if chosen == candidates[0] else "softdown"
    return Placement(view.members[chosen], reason, candidates[:CANDIDATES])
